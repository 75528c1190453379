//! The same work for each vehicle, on as many threads as there are; the answer does not depend on how many.

/// `f(0), f(1), ...` in this order, computed on up to `threads` threads.
pub(super) fn each<T: Send>(threads: usize, count: usize, f: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let part = count.div_ceil(threads.max(1)).max(1);
    if part >= count {
        return (0..count).map(f).collect();
    }
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..count)
            .step_by(part)
            .map(|from| {
                let f = &f;
                scope.spawn(move || (from..(from + part).min(count)).map(f).collect::<Vec<T>>())
            })
            .collect();
        let mut all = Vec::with_capacity(count);
        for worker in workers {
            match worker.join() {
                Ok(part) => all.extend(part),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        all
    })
}

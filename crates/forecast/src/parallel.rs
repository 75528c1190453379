//! A few threads over a list of jobs.

use std::sync::Mutex;

/// Runs `work` over items on at most `threads` threads; results come back in the items' order, so that what is summed over them
/// does not depend on the number of threads.
pub fn each<T: Send, R: Send>(
    items: Vec<T>,
    threads: usize,
    work: impl Fn(T) -> R + Sync,
) -> Vec<R> {
    let count = items.len();
    if threads <= 1 || count <= 1 {
        return items.into_iter().map(work).collect();
    }
    let waiting = Mutex::new(items.into_iter().enumerate());
    let run = || {
        let mut done = Vec::new();
        loop {
            // Bound to a name, or the lock would be held while working.
            let next = waiting.lock().ok().and_then(|mut waiting| waiting.next());
            let Some((index, item)) = next else {
                return done;
            };
            done.push((index, work(item)));
        }
    };
    let mut results = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads.min(count)).map(|_| scope.spawn(run)).collect();
        let mut results = run();
        for other in others {
            match other.join() {
                Ok(more) => results.extend(more),
                Err(cause) => std::panic::resume_unwind(cause),
            }
        }
        results
    });
    results.sort_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}

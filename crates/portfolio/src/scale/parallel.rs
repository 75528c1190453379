//! A few threads over chunks of groups, with the same sums on any number of them.

use std::sync::Mutex;

/// Most chunks: enough to share among threads, few enough that their sums cost nothing.
pub(super) const CHUNKS: usize = 16;

/// Runs `work` over equal chunks, each with a room of its own; the chunks, and so the order of their sums, depend on the
/// number of items alone.
pub(super) fn over_chunks<T: Send, W: Send, R: Send>(
    items: &mut [T],
    rooms: &mut [W],
    threads: usize,
    work: impl Fn(&mut [T], &mut W) -> R + Sync,
) -> Vec<R> {
    let size = items.len().div_ceil(rooms.len().max(1)).max(1);
    let pairs = items.chunks_mut(size).zip(rooms).collect();
    each(pairs, threads, |(chunk, room)| work(chunk, room))
}

/// Runs `work` over items on a few threads; results come back in the items' order.
pub(crate) fn each<T: Send, R: Send>(
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
            let next = match waiting.lock() {
                Ok(mut waiting) => waiting.next(),
                Err(_) => None,
            };
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

//! A few threads over chunks of groups, with the same sums on any number of them.

pub(crate) use forecast::parallel::each;

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

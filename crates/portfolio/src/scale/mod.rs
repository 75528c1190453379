//! Many vehicles together: one primal-dual interior point that never forms its matrix.

#![expect(
    clippy::needless_range_loop,
    reason = "loops over lanes and rows are compiled for the machine's registers; iterators with closures are not"
)]

mod batch;
mod bound;
mod build;
mod cover;
mod group;
mod joint;
mod lanes;
mod pack;
mod parallel;
mod pool;
mod rows;
mod site;
mod sweep;
mod units;

pub(crate) use batch::{Asked, Found, Limited, solve, supports};
pub(crate) use parallel::each;

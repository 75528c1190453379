//! Many vehicles together: one primal-dual interior point that never forms its matrix.

#![expect(
    clippy::needless_range_loop,
    reason = "loops over lanes and rows are compiled for the machine's registers; iterators with closures are not"
)]

mod asked;
mod balance;
mod begin;
mod bound;
mod build;
mod cover;
mod goal;
mod group;
mod joint;
mod lanes;
mod matrix;
mod pack;
mod parallel;
mod pool;
mod rows;
mod schedule;
mod site;
mod solve;
mod sweep;
mod units;

pub(crate) use asked::{Asked, Found, Limited, supports};
pub(crate) use parallel::each;
pub(crate) use solve::solve;

//! Day-ahead prices of Germany in 2020, every day forecast from what was known before it; scores as JSON.
//!
//! `cargo run --release -p forecast --example price_de_2020 -- FILE`, where FILE is the published LEAR forecasts of
//! 2019-2020 with prices and load, wind and sun forecasts, unpacked. The LEAR forecasts are scored, never an input.
#![allow(clippy::print_stdout, reason = "prints its result")]

use std::error::Error;

use chrono::NaiveDate;
use forecast::price::{HOURS, Hours, PriceDay, PriceDays, german_holiday, score, walk};

fn main() -> Result<(), Box<dyn Error>> {
    let file = std::env::args().nth(1).ok_or("the file is missing")?;
    let (days, published) = read(&std::fs::read_to_string(file)?)?;
    let from = NaiveDate::from_ymd_opt(2020, 1, 1)
        .and_then(|d| days.index(d))
        .ok_or("no 2020")?;
    let forecasts = walk(&days, from, days.days().len())?;
    let scores = score(&days, from, &forecasts, Some(&published)).ok_or("nothing to score")?;
    println!("{}", serde_json::to_string_pretty(&scores)?);
    Ok(())
}

/// Rows of 24 hours a day: clock, price, four forecasts, their average, load, wind and sun.
fn read(text: &str) -> Result<(PriceDays, Vec<Hours>), Box<dyn Error>> {
    let (mut days, mut published) = (Vec::new(), Vec::new());
    let lines: Vec<_> = text.lines().skip(1).collect();
    for chunk in lines.chunks(HOURS) {
        let mut columns = [[0.0; HOURS]; 4];
        for (hour, line) in chunk.iter().enumerate() {
            let cells: Vec<_> = line.split(',').collect();
            for (slot, column) in columns.iter_mut().zip([1, 6, 7, 8]) {
                slot[hour] = cells.get(column).ok_or("a short row")?.parse()?;
            }
        }
        let date: NaiveDate = chunk[0].get(..10).ok_or("a short row")?.parse()?;
        let [price, lear, load, renewable] = columns;
        published.push(lear);
        days.push(PriceDay {
            date,
            price: Some(price),
            known: vec![load, renewable],
            holiday: german_holiday(date),
        });
    }
    Ok((PriceDays::try_new(days)?, published))
}

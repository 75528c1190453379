//! The series of a scenario.

use glob::Pattern;

use super::load::{ANY, Reading, existing};
use super::types::{Imbalance, Prices};
use crate::InputError;
use crate::frequency::FrequencySource;
use crate::series::{self, GridSeries, Per, ReserveBlocks, SeriesFile};
use crate::tree::{Branch, Leaf};

const SERIES: &str = "a series, as in { file = \"da.csv.gz\", column = \"nl_eur_mwh\" }";

/// Reads `[prices]`.
pub(super) fn prices(leaf: &Leaf<'_>, reading: &mut Reading<'_>) -> Result<Prices, InputError> {
    let mut table = leaf.branch("a table [prices]")?;
    let day_ahead = base_load(&table.need("day_ahead", SERIES)?, reading)?;
    let spread = table.number("imbalance_spread", 0.0, ANY)?;
    let imbalance = match table.get("imbalance") {
        Some(leaf) => imbalance(&leaf, reading)?,
        None => Imbalance::Spread(spread),
    };
    let mut reserve = |key, per| {
        table
            .get(key)
            .map(|l| reserve(&l, per, reading))
            .transpose()
    };
    let fcr = reserve("fcr", Per::Block)?;
    let afrr_up = reserve("afrr_up", Per::Hour)?;
    let afrr_down = reserve("afrr_down", Per::Hour)?;
    let frequency = table
        .get("frequency")
        .map(|l| frequency(&l, reading))
        .transpose()?;
    let carbon = table
        .get("carbon")
        .map(|l| base_load(&l, reading))
        .transpose()?;
    table.finish()?;
    Ok(Prices {
        day_ahead,
        imbalance,
        fcr,
        afrr_up,
        afrr_down,
        frequency,
        carbon,
    })
}

/// A series with one value per step (a price, or the base load of a site).
pub(super) fn base_load(
    leaf: &Leaf<'_>,
    reading: &mut Reading<'_>,
) -> Result<GridSeries, InputError> {
    let mut table = leaf.branch(SERIES)?;
    let source = source(&mut table, reading)?;
    let column = table
        .need("column", "the name of a column")?
        .text("the name of a column")?;
    table.finish()?;
    on_grid(&source, column, reading)
}

fn on_grid(
    source: &SeriesFile,
    column: &str,
    reading: &mut Reading<'_>,
) -> Result<GridSeries, InputError> {
    let mut points = series::read(source, column)?;
    reading.notes.extend(points.note.take());
    series::grid(&points, reading.window)
}

fn imbalance(leaf: &Leaf<'_>, reading: &mut Reading<'_>) -> Result<Imbalance, InputError> {
    let mut table = leaf.branch(SERIES)?;
    let source = source(&mut table, reading)?;
    let one = table.get("column");
    let mut column = |key| {
        let own = table.get(key);
        match (&one, &own) {
            (Some(one), Some(_)) => Err(one
                .error("a column beside column_short and column_long, expected one or the others")),
            (Some(column), None) | (None, Some(column)) => column.text("the name of a column"),
            (None, None) => {
                Err(table.error(format!("{key} is missing, expected the name of a column")))
            }
        }
    };
    let (short, long) = (column("column_short")?, column("column_long")?);
    table.finish()?;
    Ok(Imbalance::Series {
        short: on_grid(&source, short, reading)?,
        long: on_grid(&source, long, reading)?,
    })
}

/// A series of capacity prices by block.
pub(super) fn reserve(
    leaf: &Leaf<'_>,
    usual: Per,
    reading: &mut Reading<'_>,
) -> Result<ReserveBlocks, InputError> {
    let mut table = leaf.branch(SERIES)?;
    let source = source(&mut table, reading)?;
    let column = table
        .need("column", "the name of a column")?
        .text("the name of a column")?;
    let per = match table.get("per") {
        None => usual,
        Some(leaf) => match leaf.text("\"block\" or \"hour\"")? {
            "block" => Per::Block,
            "hour" => Per::Hour,
            other => return Err(leaf.error(format!("{other:?}, expected \"block\" or \"hour\""))),
        },
    };
    table.finish()?;
    let mut points = series::read(&source, column)?;
    reading.notes.extend(points.note.take());
    series::blocks(&points, per, reading.window)
}

fn frequency(leaf: &Leaf<'_>, reading: &Reading<'_>) -> Result<FrequencySource, InputError> {
    let mut table = leaf.branch(SERIES)?;
    let files = files(&mut table, reading)?;
    let column = table
        .need("column", "the name of a column")?
        .text("the name of a column")?;
    table.finish()?;
    FrequencySource::try_new(files, column.to_owned())
}

/// The files of a table: `file` beside the scenario, or `data` in the data folder.
pub(super) fn files(
    table: &mut Branch<'_>,
    reading: &Reading<'_>,
) -> Result<Vec<std::path::PathBuf>, InputError> {
    let (own, shared) = (table.get("file"), table.get("data"));
    let (leaf, folder) = match (own, shared) {
        (_, None) => (table.need("file", "the path of a file")?, reading.folder),
        (None, Some(leaf)) => {
            let folder = reading.data.ok_or_else(|| {
                leaf.error("a file of the data folder, which was not named: expected --data DIR")
            })?;
            (leaf, folder)
        }
        (Some(leaf), Some(_)) => {
            return Err(leaf.error("a file beside data, expected one of them"));
        }
    };
    let files: Vec<_> = leaf.list();
    if files.is_empty() {
        return Err(leaf.error("an empty list, expected at least one path"));
    }
    files.iter().map(|f| existing(f, folder)).collect()
}

fn source(table: &mut Branch<'_>, reading: &Reading<'_>) -> Result<SeriesFile, InputError> {
    let files = files(table, reading)?;
    let mut filter = Vec::new();
    if let Some(leaf) = table.get("where") {
        for (column, pattern) in
            leaf.texts("columns with patterns, as in { product = \"POS_*\" }")?
        {
            let pattern = Pattern::new(&pattern).map_err(|e| {
                leaf.error(format!(
                    "{pattern:?} ({e}), expected a pattern with * and ?"
                ))
            })?;
            filter.push((column, pattern));
        }
    }
    let hold = match table.get("fill") {
        None => false,
        Some(leaf) => match leaf.text("\"hold\"")? {
            "hold" => true,
            other => {
                return Err(leaf.error(format!("{other:?}, expected \"hold\", or no fill at all")));
            }
        },
    };
    Ok(SeriesFile {
        files,
        filter,
        hold,
    })
}

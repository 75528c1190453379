//! `shoal migrate`: makes what services find when they start: topics on Kafka, tables.

use std::path::PathBuf;

use serde::Serialize;
use store::{TablesIn, TopicFound};

use crate::cli::CliError;
use crate::output::Output;
use crate::serve::config;

/// Options of `shoal migrate`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Example:\n  shoal migrate --config shoal.toml\n\n\
    Without brokers in [log] only the tables are made. What is there stays; it can be run again.")]
pub(crate) struct Args {
    /// Settings, TOML, the same as for shoal serve
    #[arg(long, env = "SHOAL_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, Serialize)]
struct Migrated {
    /// Folder or server of the tables.
    tables: String,
    topics: Vec<Topic>,
}

#[derive(Debug, Serialize)]
struct Topic {
    name: &'static str,
    partitions: u32,
    made: bool,
}

/// Makes what is missing.
///
/// # Errors
/// Status 2 for a configuration that cannot work; status 1 if no broker or server answers, the folder cannot be used, or a topic that
/// was there has too few partitions.
pub(crate) fn run(args: &Args, output: Output) -> Result<(), CliError> {
    let config = config::load(args.config.as_deref(), &[])?;
    let place = config.store.place().map_err(CliError::Input)?;
    let tables = match &place {
        TablesIn::Folder(dir) => dir.display().to_string(),
        TablesIn::Postgres(server) => server.to_string(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let found = runtime.block_on(async {
        match config.log.kafka() {
            Some(kafka) => store::migrate(place, &kafka).await,
            None => store::migrate_tables(&place).await.map(|()| Vec::new()),
        }
    });
    let found = found.map_err(|e| CliError::failed(&e))?;
    let topics = found.iter().map(|topic: &TopicFound| Topic {
        name: topic.topic.name(),
        partitions: topic.partitions,
        made: topic.made,
    });
    let migrated = Migrated {
        tables,
        topics: topics.collect(),
    };
    output.result(&migrated, || text(&migrated))
}

fn text(migrated: &Migrated) -> String {
    let mut text = format!("{}: tables are up to date", migrated.tables);
    for topic in &migrated.topics {
        let what = if topic.made { "made" } else { "was there" };
        text += &format!(
            "\n{:<28} {:>4} partitions  {what}",
            topic.name, topic.partitions
        );
    }
    text
}

//! The tables: upserts that can be repeated, and reads.

use chrono::{DateTime, Utc};
use fleet::schedule::Schedule;
use fleet::{Evse, EvseId, MeterInterval, Protocol, Reading, Session, SessionState, Site};
use market::{Area, Award, Bid, BidId, BidStatus, Clearing, Plan, Product, Statement};
use sqlx::AssertSqlSafe;
use tokio::sync::mpsc;
use units::{Efficiency, Energy, Power, Soc};

use crate::change::Change;
use crate::database::{Pool, Sql, partition, sql};
use crate::decode::Columns;
use crate::embedded::apply;
use crate::error::{StoreError, db};
use crate::lease::Lease;
use crate::open::Keep;
use crate::rows::{self, ForecastRow};
use crate::upsert::Upsert;
use crate::writer::Job;

/// The tables. Cheap to clone.
///
/// Reads named `..._between(from, to)` answer what starts in `from..to`, in order of its start, unless said otherwise.
#[derive(Debug, Clone)]
pub struct Tables {
    jobs: mpsc::Sender<Job>,
    readers: Pool,
    writer: Pool,
    keeps_readings: bool,
}

/// Makes partitions ahead and takes away what is older than `keep`, in whole days of readings and whole months of intervals (UTC).
pub(crate) async fn housekeep(
    pool: &Pool,
    now: DateTime<Utc>,
    keep: Keep,
) -> Result<(), StoreError> {
    partition::housekeep(pool, &partition::READING, now, keep.readings).await?;
    partition::housekeep(pool, &partition::INTERVAL, now, keep.intervals).await?;
    pool.sweep().await
}

macro_rules! upserts {
    ($($(#[$doc:meta])* $one:ident, $many:ident, $change:ident, $row:ty;)*) => {
        impl Tables {
            $(
                $(#[$doc])*
                ///
                /// # Errors
                /// [`StoreError`] if it was not stored.
                pub async fn $one(&self, row: &$row) -> Result<(), StoreError> {
                    self.$many(std::slice::from_ref(row)).await
                }

                /// The same for several, all or none.
                ///
                /// # Errors
                /// [`StoreError`] if none was stored.
                pub async fn $many(&self, rows: &[$row]) -> Result<(), StoreError> {
                    self.apply(Change::default().$change(rows)).await
                }
            )*
        }
    };
}

upserts! {
    /// Stores a site, by id.
    upsert_site, upsert_sites, sites, Site;
    /// Stores an EVSE, by id.
    upsert_evse, upsert_evses, evses, Evse;
    /// Stores a stay as far as it went, by id.
    upsert_session, upsert_sessions, sessions, SessionState;
    /// Stores a sample of a meter, by EVSE and instant.
    upsert_reading, upsert_readings, readings, Reading;
    /// Stores a metered interval, by EVSE and start; an older version never replaces a newer one.
    upsert_interval, upsert_intervals, intervals, MeterInterval;
    /// Stores a bid, by id.
    upsert_bid, upsert_bids, bids, Bid;
    /// Stores an award, by id.
    upsert_award, upsert_awards, awards, Award;
    /// Stores a clearing price, by area, product and start of delivery.
    upsert_clearing, upsert_clearings, clearings, Clearing;
    /// Stores a statement, by account, area, day and version.
    upsert_statement, upsert_statements, statements, Statement;
    /// Stores a forecast, by id.
    insert_forecast, insert_forecasts, forecasts, ForecastRow;
}

impl Tables {
    pub(crate) fn new(jobs: mpsc::Sender<Job>, readers: Pool, writer: Pool, keep: Keep) -> Self {
        Self {
            jobs,
            readers,
            writer,
            keeps_readings: keep.keeps_readings(),
        }
    }

    /// True if samples of meters are to be kept: whoever accepts one stores its row ([`Change::readings`]).
    #[must_use]
    pub const fn keeps_readings(&self) -> bool {
        self.keeps_readings
    }

    /// Makes partitions ahead and takes away what is older than `keep`, in whole days of readings and whole months of intervals
    /// (UTC). A store over Kafka does so every hour.
    ///
    /// # Errors
    /// [`StoreError`] if the database refuses; what was not taken away is met again by the next call.
    pub async fn housekeep(&self, now: DateTime<Utc>, keep: Keep) -> Result<(), StoreError> {
        housekeep(&self.writer, now, keep).await
    }

    /// Stores a change whole or not at all.
    ///
    /// # Errors
    /// [`StoreError`] if nothing of it was stored. With the log on Kafka, a change of records alone may have been appended in
    /// part, as in [`crate::Log::append`].
    pub async fn apply(&self, change: Change) -> Result<(), StoreError> {
        apply(&self.jobs, change).await
    }

    /// Says where a bid stands; an unknown bid changes nothing.
    ///
    /// # Errors
    /// [`StoreError`] if it was not stored.
    pub async fn set_bid_status(&self, bid: BidId, status: BidStatus) -> Result<(), StoreError> {
        let change = Change::default().bid_status(bid, status);
        self.apply(change).await
    }

    /// Stores a plan with its schedules, by id.
    ///
    /// # Errors
    /// [`StoreError`] if it was not stored.
    pub async fn upsert_plan(&self, plan: &Plan, schedules: &[Schedule]) -> Result<(), StoreError> {
        let change = Change::default().plan(plan, schedules);
        self.apply(change).await
    }

    async fn read<T>(
        &self,
        table: &'static str,
        query: Sql,
        decode: impl Fn(&Columns<'_>) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        let rows = self.readers.fetch(query).await;
        let rows = rows.map_err(db("read of a table"))?;
        rows.iter()
            .map(|row| decode(&Columns { table, row }))
            .collect()
    }

    /// Who holds `office`, or held it last; none if nobody ever did.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read.
    pub async fn lease(&self, office: &str) -> Result<Option<Lease>, StoreError> {
        let query = sql("SELECT * FROM lease WHERE office = $1").bind(office.to_owned());
        let found = self.read("lease", query, |row| {
            Ok(Lease {
                office: row.raw("office")?,
                holder: row.raw("holder")?,
                address: row.raw("address")?,
                term: row.raw::<i64>("term")?.unsigned_abs(),
                beat: row.raw::<i64>("beat")?.unsigned_abs(),
            })
        });
        Ok(found.await?.pop())
    }

    /// All sites, by id.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be read.
    pub async fn sites(&self) -> Result<Vec<Site>, StoreError> {
        let query = select(&rows::SITE, "ORDER BY id");
        self.read("site", query, site).await
    }

    /// All EVSEs, by id.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be read.
    pub async fn evses(&self) -> Result<Vec<Evse>, StoreError> {
        let query = select(&rows::EVSE, "ORDER BY id");
        self.read("evse", query, evse).await
    }

    /// Stays that overlap `from..to`, in order of plug-in; one that has not ended reaches to the end of time.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be read.
    pub async fn sessions_between(
        &self,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
    ) -> Result<Vec<SessionState>, StoreError> {
        let query = select(
            &rows::SESSION,
            "WHERE plugged_in < $2 AND (unplugged IS NULL OR unplugged > $1) \
             ORDER BY plugged_in, id",
        );
        self.read("session", between(query, from, to), session)
            .await
    }

    /// Stays that have not ended, in order of plug-in.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be read.
    pub async fn open_sessions(&self) -> Result<Vec<SessionState>, StoreError> {
        let query = select(
            &rows::SESSION,
            "WHERE unplugged IS NULL ORDER BY plugged_in, id",
        );
        self.read("session", query, session).await
    }

    /// Samples of one meter, by their instant.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be read.
    pub async fn readings_between(
        &self,
        evse: &EvseId,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
    ) -> Result<Vec<Reading>, StoreError> {
        let query = select(
            &rows::READING,
            "WHERE sampled_at >= $1 AND sampled_at < $2 AND evse = $3 ORDER BY sampled_at",
        );
        let query = between(query, from, to).bind(evse.to_string());
        self.read("reading", query, reading).await
    }

    /// Samples of all meters, by their instant.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be read.
    pub async fn samples_between(
        &self,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
    ) -> Result<Vec<Reading>, StoreError> {
        let query = select(
            &rows::READING,
            "WHERE sampled_at >= $1 AND sampled_at < $2 ORDER BY sampled_at, evse",
        );
        self.read("reading", between(query, from, to), reading)
            .await
    }

    /// Metered intervals, newest version of each.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be read.
    pub async fn intervals_between(
        &self,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
    ) -> Result<Vec<MeterInterval>, StoreError> {
        let query = select(
            &rows::INTERVAL,
            "WHERE starts_at >= $1 AND starts_at < $2 ORDER BY starts_at, evse",
        );
        self.read("meter_interval", between(query, from, to), interval)
            .await
    }

    /// Bids by start of delivery.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be read.
    pub async fn bids_between(
        &self,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
    ) -> Result<Vec<Bid>, StoreError> {
        let query = select(
            &rows::BID,
            "WHERE starts_at >= $1 AND starts_at < $2 ORDER BY starts_at, product, id",
        );
        self.read("bid", between(query, from, to), bid).await
    }

    /// One bid, if it is stored.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read.
    pub async fn bid(&self, id: BidId) -> Result<Option<Bid>, StoreError> {
        let query = select(&rows::BID, "WHERE id = $1").bind(id.to_string());
        Ok(self.read("bid", query, bid).await?.pop())
    }

    /// Awards by start of delivery.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be read.
    pub async fn awards_between(
        &self,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
    ) -> Result<Vec<Award>, StoreError> {
        let query = select(
            &rows::AWARD,
            "WHERE starts_at >= $1 AND starts_at < $2 ORDER BY starts_at, product, id",
        );
        self.read("award", between(query, from, to), award).await
    }

    /// Clearing prices by start of delivery.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be read.
    pub async fn clearings_between(
        &self,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
    ) -> Result<Vec<Clearing>, StoreError> {
        let query = select(
            &rows::CLEARING,
            "WHERE starts_at >= $1 AND starts_at < $2 ORDER BY starts_at, area, product",
        );
        self.read("clearing", between(query, from, to), clearing)
            .await
    }

    /// Statements by start of their day, newest version of each account and day.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be read.
    pub async fn statements_between(
        &self,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
    ) -> Result<Vec<Statement>, StoreError> {
        let query = select(
            &rows::STATEMENT,
            "WHERE starts_at >= $1 AND starts_at < $2 AND version = \
             (SELECT MAX(version) FROM statement AS n WHERE n.account = statement.account AND n.area = statement.area \
              AND n.starts_at = statement.starts_at) ORDER BY starts_at, account, area",
        );
        self.read("statement", between(query, from, to), statement)
            .await
    }

    /// The newest plan of `area` with its schedules, if there is one.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read.
    pub async fn latest_plan(
        &self,
        area: Area,
    ) -> Result<Option<(Plan, Vec<Schedule>)>, StoreError> {
        let query = sql(
            "SELECT plan.body AS body, plan_schedules.body AS schedules FROM plan \
             JOIN plan_schedules ON plan_schedules.plan = plan.id \
             WHERE plan.area = $1 ORDER BY plan.solved_at DESC, plan.id DESC LIMIT 1",
        )
        .bind(area.code());
        let both = |row: &Columns<'_>| {
            Ok((
                row.json("body", "plan")?,
                row.json("schedules", "list of schedules")?,
            ))
        };
        Ok(self.read("plan", query, both).await?.pop())
    }

    /// Plans by the instant they were solved, without schedules.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be read.
    pub async fn plans_between(
        &self,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
    ) -> Result<Vec<Plan>, StoreError> {
        let query = sql(
            "SELECT body FROM plan WHERE solved_at >= $1 AND solved_at < $2 ORDER BY solved_at, id",
        );
        self.read("plan", between(query, from, to), |row| {
            row.json("body", "plan")
        })
        .await
    }

    /// Forecasts of one series that cover any part of `from..to`, oldest issue first.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be read.
    pub async fn forecasts_between(
        &self,
        series: &str,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
    ) -> Result<Vec<ForecastRow>, StoreError> {
        let query = select(
            &rows::FORECAST,
            "WHERE starts_at < $2 AND ends_at > $1 AND series = $3 ORDER BY issued_at, id",
        );
        let query = between(query, from, to).bind(series.to_owned());
        self.read("forecast", query, forecast).await
    }

    /// What `group` saved to resume from: key and body, by key. It belongs to the offset that the group committed.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read.
    pub async fn kept(&self, group: &str) -> Result<Vec<(String, String)>, StoreError> {
        let query = sql(
            "SELECT state_key, body FROM consumer_state WHERE group_name = $1 ORDER BY state_key",
        )
        .bind(group.to_owned());
        let both = |row: &Columns<'_>| Ok((row.raw("state_key")?, row.raw("body")?));
        self.read("consumer_state", query, both).await
    }
}

/// All columns of a table by name: a statement that was prepared before a newer release added one stays what it was.
fn select(from: &Upsert, rest: &str) -> Sql {
    let columns = from.columns.join(", ");
    sql(AssertSqlSafe(format!(
        "SELECT {columns} FROM {} {rest}",
        from.table
    )))
}

fn between(query: Sql, from: DateTime<Utc>, to: DateTime<Utc>) -> Sql {
    query
        .bind(from.timestamp_micros())
        .bind(to.timestamp_micros())
}

fn watts(row: &Columns<'_>, column: &'static str) -> Result<Power, StoreError> {
    row.raw(column).map(Power::from_watts)
}

fn joules(row: &Columns<'_>, column: &'static str) -> Result<Energy, StoreError> {
    row.raw(column).map(Energy::from_joules)
}

fn product(row: &Columns<'_>) -> Result<Product, StoreError> {
    row.word("product", "product")
}

fn site(row: &Columns<'_>) -> Result<Site, StoreError> {
    Ok(Site {
        id: row.parse("id", "site id")?,
        name: row.raw("name")?,
        import_limit: watts(row, "import_limit_watts")?,
        export_limit: watts(row, "export_limit_watts")?,
    })
}

fn evse(row: &Columns<'_>) -> Result<Evse, StoreError> {
    let protocol: Protocol = row.word("protocol", "protocol")?;
    Ok(Evse {
        id: row.parse("id", "EVSE id")?,
        station: row.parse("station", "station id")?,
        site: row.parse("site", "site id")?,
        class: row.raw("class")?,
        protocol,
        max_charge: watts(row, "max_charge_watts")?,
        max_discharge: watts(row, "max_discharge_watts")?,
        charge_efficiency: row.fraction("charge_efficiency", Efficiency::try_new)?,
        discharge_efficiency: row.fraction("discharge_efficiency", Efficiency::try_new)?,
    })
}

fn session(row: &Columns<'_>) -> Result<SessionState, StoreError> {
    let needs: Option<String> = row.raw("needs")?;
    let added: Option<i64> = row.raw("added_joules")?;
    let soc: Option<f64> = row.raw("soc_ratio")?;
    Ok(SessionState {
        session: Session {
            id: row.parse("id", "session id")?,
            evse: row.parse("evse", "EVSE id")?,
            site: row.parse("site", "site id")?,
            vehicle: row.parse_opt("vehicle", "vehicle id")?,
            plugged_in: row.instant("plugged_in")?,
            unplugged: row.instant_opt("unplugged")?,
            needs: needs.map(|_| row.json("needs", "needs")).transpose()?,
        },
        added: added.map(Energy::from_joules),
        soc: soc
            .map(|_| row.fraction("soc_ratio", Soc::try_new))
            .transpose()?,
    })
}

fn reading(row: &Columns<'_>) -> Result<Reading, StoreError> {
    let joules = |column| -> Result<Option<Energy>, StoreError> {
        Ok(row.raw::<Option<i64>>(column)?.map(Energy::from_joules))
    };
    let power: Option<i64> = row.raw("power_watts")?;
    let soc: Option<f64> = row.raw("soc_ratio")?;
    Ok(Reading {
        evse: row.parse("evse", "EVSE id")?,
        session: row.parse_opt("session", "session id")?,
        at: row.instant("sampled_at")?,
        power: power.map(Power::from_watts),
        import_register: joules("import_register_joules")?,
        export_register: joules("export_register_joules")?,
        soc: soc
            .map(|_| row.fraction("soc_ratio", Soc::try_new))
            .transpose()?,
    })
}

fn interval(row: &Columns<'_>) -> Result<MeterInterval, StoreError> {
    Ok(MeterInterval {
        evse: row.parse("evse", "EVSE id")?,
        site: row.parse("site", "site id")?,
        interval: row.interval()?,
        import: joules(row, "import_joules")?,
        export: joules(row, "export_joules")?,
        covered_seconds: row.count("covered_seconds")?,
        version: row.count("version")?,
    })
}

fn bid(row: &Columns<'_>) -> Result<Bid, StoreError> {
    let divisible: i64 = row.raw("divisible")?;
    Ok(Bid {
        id: row.parse("id", "bid id")?,
        area: row.parse("area", "area")?,
        product: product(row)?,
        direction: row.word("direction", "direction")?,
        delivery: row.interval()?,
        volume: watts(row, "volume_watts")?,
        price: row.price_opt()?,
        divisible: divisible != 0,
        gate_closes: row.instant("gate_closes")?,
        built_at: row.instant("built_at")?,
        delivery_probability: row.raw("delivery_probability")?,
        reason: row.raw("reason")?,
        status: row.word("status", "bid status")?,
    })
}

fn award(row: &Columns<'_>) -> Result<Award, StoreError> {
    Ok(Award {
        id: row.parse("id", "award id")?,
        bid: row.parse("bid", "bid id")?,
        area: row.parse("area", "area")?,
        product: product(row)?,
        direction: row.word("direction", "direction")?,
        delivery: row.interval()?,
        volume: watts(row, "volume_watts")?,
        price: row.price()?,
        awarded_at: row.instant("awarded_at")?,
    })
}

fn clearing(row: &Columns<'_>) -> Result<Clearing, StoreError> {
    Ok(Clearing {
        area: row.parse("area", "area")?,
        product: product(row)?,
        delivery: row.interval()?,
        price: row.price()?,
        published_at: row.instant("published_at")?,
    })
}

fn statement(row: &Columns<'_>) -> Result<Statement, StoreError> {
    Ok(Statement {
        account: row.raw("account")?,
        area: row.parse("area", "area")?,
        day: row.interval()?,
        version: row.count("version")?,
        lines: row.json("lines", "list of lines")?,
        total: row.total()?,
    })
}

fn forecast(row: &Columns<'_>) -> Result<ForecastRow, StoreError> {
    Ok(ForecastRow {
        id: row.raw("id")?,
        series: row.raw("series")?,
        model: row.raw("model")?,
        issued_at: row.instant("issued_at")?,
        data_until: row.instant("data_until")?,
        covers: row.interval()?,
        body: row.raw("body")?,
    })
}

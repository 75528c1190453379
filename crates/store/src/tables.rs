//! The tables: upserts that can be repeated, and reads.

use chrono::{DateTime, Utc};
use fleet::schedule::Schedule;
use fleet::{Evse, MeterInterval, Protocol, Session, SessionState, Site};
use market::{Area, Award, Bid, BidId, BidStatus, Clearing, Plan, Product, Statement};
use sqlx::query::Query;
use sqlx::sqlite::SqliteArguments;
use sqlx::{Sqlite, SqlitePool};
use tokio::sync::mpsc;
use units::{Efficiency, Energy, Power, Soc};

use crate::change::Change;
use crate::decode::Columns;
use crate::embedded::apply;
use crate::error::{StoreError, db};
use crate::lease::Lease;
use crate::rows::ForecastRow;
use crate::writer::Job;

/// The tables. Cheap to clone.
///
/// Reads named `..._between(from, to)` answer what starts in `from..to`, in order of its start, unless said otherwise.
#[derive(Debug, Clone)]
pub struct Tables {
    jobs: mpsc::Sender<Job>,
    readers: SqlitePool,
}

type Sql = Query<'static, Sqlite, SqliteArguments>;

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
    pub(crate) fn new(jobs: mpsc::Sender<Job>, readers: SqlitePool) -> Self {
        Self { jobs, readers }
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
        let rows = query
            .fetch_all(&self.readers)
            .await
            .map_err(db("read of a table"))?;
        rows.iter()
            .map(|row| decode(&Columns { table, row }))
            .collect()
    }

    /// Who holds `office`, or held it last; none if nobody ever did.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read.
    pub async fn lease(&self, office: &str) -> Result<Option<Lease>, StoreError> {
        let query = sqlx::query("SELECT * FROM lease WHERE office = $1").bind(office.to_owned());
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
        let query = sqlx::query("SELECT * FROM site ORDER BY id");
        self.read("site", query, site).await
    }

    /// All EVSEs, by id.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be read.
    pub async fn evses(&self) -> Result<Vec<Evse>, StoreError> {
        let query = sqlx::query("SELECT * FROM evse ORDER BY id");
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
        let query = sqlx::query(
            "SELECT * FROM session WHERE plugged_in < $2 AND (unplugged IS NULL OR unplugged > $1) \
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
        let query =
            sqlx::query("SELECT * FROM session WHERE unplugged IS NULL ORDER BY plugged_in, id");
        self.read("session", query, session).await
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
        let query = sqlx::query(
            "SELECT * FROM meter_interval WHERE starts_at >= $1 AND starts_at < $2 ORDER BY starts_at, evse",
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
        let query = sqlx::query(
            "SELECT * FROM bid WHERE starts_at >= $1 AND starts_at < $2 ORDER BY starts_at, product, id",
        );
        self.read("bid", between(query, from, to), bid).await
    }

    /// One bid, if it is stored.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read.
    pub async fn bid(&self, id: BidId) -> Result<Option<Bid>, StoreError> {
        let query = sqlx::query("SELECT * FROM bid WHERE id = $1").bind(id.to_string());
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
        let query = sqlx::query(
            "SELECT * FROM award WHERE starts_at >= $1 AND starts_at < $2 ORDER BY starts_at, product, id",
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
        let query = sqlx::query(
            "SELECT * FROM clearing WHERE starts_at >= $1 AND starts_at < $2 ORDER BY starts_at, area, product",
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
        let query = sqlx::query(
            "SELECT * FROM statement AS s WHERE starts_at >= $1 AND starts_at < $2 AND version = \
             (SELECT MAX(version) FROM statement AS n WHERE n.account = s.account AND n.area = s.area \
              AND n.starts_at = s.starts_at) ORDER BY starts_at, account, area",
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
        let query = sqlx::query(
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
        let query = sqlx::query(
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
        let query = sqlx::query(
            "SELECT * FROM forecast WHERE starts_at < $2 AND ends_at > $1 AND series = $3 ORDER BY issued_at, id",
        );
        let query = between(query, from, to).bind(series.to_owned());
        self.read("forecast", query, forecast).await
    }

    /// What `group` saved to resume from: key and body, by key. It belongs to the offset that the group committed.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read.
    pub async fn kept(&self, group: &str) -> Result<Vec<(String, String)>, StoreError> {
        sqlx::query_as(
            "SELECT state_key, body FROM consumer_state WHERE group_name = $1 ORDER BY state_key",
        )
        .bind(group.to_owned())
        .fetch_all(&self.readers)
        .await
        .map_err(db("state of a consumer"))
    }
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

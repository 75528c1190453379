//! A real PostgreSQL for tests.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use store::PostgresOptions;
use tempfile::TempDir;

/// Folder with the programs of PostgreSQL; `cargo xtask test` sets it.
const BIN: &str = "SHOAL_POSTGRES";

/// Who the tests are on the server.
const PASSWORD: &str = "not a secret";

const PATIENCE: Duration = Duration::from_secs(120);

/// Stops what is left when the test process has ended, however it ended: its input is our pipe.
const GUARD: &str = r#"
cat > /dev/null
pid=$(head -n 1 "$1/data/postmaster.pid" 2> /dev/null) || exit 0
kill -QUIT "$pid" 2> /dev/null
while kill -0 "$pid" 2> /dev/null; do sleep 0.1; done
"#;

/// A server on a free port with data of its own.
pub(crate) struct Postgres {
    bin: PathBuf,
    data: PathBuf,
    port: u16,
    server: Child,
    guard: Child,
    alive: Option<ChildStdin>,
    _dir: TempDir,
}

/// `program` as a user that PostgreSQL agrees to: it refuses root.
fn command(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let user = user();
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid", user, "--clear-groups"])
        .args(["--regid", &group_of(user)])
        .arg(program);
    command
}

fn is_root() -> bool {
    asked("id", &["-u"]).is_some_and(|id| id == "0")
}

fn user() -> &'static str {
    let there = asked("id", &["-u", "postgres"]).is_some();
    if there { "postgres" } else { "nobody" }
}

fn group_of(user: &str) -> String {
    asked("id", &["-g", user]).unwrap()
}

fn asked(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program)
        .args(arguments)
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let said = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| said.trim().to_owned())
}

impl Postgres {
    /// Starts one; none without the programs, and says so.
    pub(crate) async fn start() -> Option<Self> {
        let Some(bin) = std::env::var_os(BIN).map(PathBuf::from) else {
            println!("skipped: {BIN} is not set, so there is no PostgreSQL to test with");
            return None;
        };
        let dir = tempfile::tempdir().unwrap();
        if is_root() {
            let given = Command::new("chown").arg(user()).arg(dir.path()).status();
            assert!(given.unwrap().success());
        }
        let data = dir.path().join("data");
        let password = dir.path().join("password");
        std::fs::write(&password, PASSWORD).unwrap();
        // Texts of the programs compare byte by byte, whatever the server was set up with.
        let locale = ["--locale-provider=icu", "--icu-locale=en-US"];
        let made = command(&bin.join("initdb"))
            .args(["--no-sync", "--auth=scram-sha-256", "--encoding=UTF8"])
            .args(["--username=shoal", "--locale=C.UTF-8"])
            .args(locale)
            .arg(format!("--pwfile={}", password.display()))
            .arg("--pgdata")
            .arg(&data)
            .output()
            .unwrap();
        assert!(
            made.status.success(),
            "{}",
            String::from_utf8_lossy(&made.stderr)
        );
        let mut guard = Command::new("sh")
            .args(["-c", GUARD, "guard"])
            .arg(dir.path())
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let alive = guard.stdin.take();
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|socket| socket.local_addr())
            .unwrap()
            .port();
        let server = serve(&bin, &data, port);
        let mut postgres = Self {
            bin,
            data,
            port,
            server,
            guard,
            alive,
            _dir: dir,
        };
        postgres.wait().await;
        Some(postgres)
    }

    async fn wait(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        let url = self.url("postgres", "shoal");
        while let Err(refused) = PgConnection::connect(&url).await {
            if self.server.try_wait().unwrap().is_some() {
                // What a killed one shared lives until its last process has gone.
                self.server = serve(&self.bin, &self.data, self.port);
            }
            assert!(Instant::now() < deadline, "{refused}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Kills the server and each of its processes as a power cut would.
    pub(crate) fn kill(&mut self) {
        let pid = self.server.id();
        let children = asked("ps", &["-o", "pid=", "--ppid", &pid.to_string()]).unwrap_or_default();
        self.server.kill().unwrap();
        for child in children.split_whitespace() {
            super::signal("-KILL", child);
        }
        self.server.wait().unwrap();
    }

    /// Starts it again on the same data and port.
    pub(crate) async fn start_again(&mut self) {
        self.server = serve(&self.bin, &self.data, self.port);
        self.wait().await;
    }

    fn url(&self, database: &str, user: &str) -> String {
        let password = PASSWORD.replace(' ', "%20");
        format!(
            "postgres://{user}:{password}@127.0.0.1:{}/{database}?sslmode=disable",
            self.port
        )
    }

    /// Address of `schema`, made if absent, without the password.
    pub(crate) async fn address(&self, schema: &str) -> String {
        let mut connection = PgConnection::connect(&self.url("postgres", "shoal"))
            .await
            .unwrap();
        let make = format!("CREATE SCHEMA IF NOT EXISTS {schema}");
        sqlx::raw_sql(AssertSqlSafe(make))
            .execute(&mut connection)
            .await
            .unwrap();
        format!(
            "postgres://shoal@127.0.0.1:{}/postgres?sslmode=disable&options[search_path]={schema}",
            self.port
        )
    }

    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    /// The same by way of another port, what is in the schema in front of what the server brings.
    pub(crate) fn in_front(&self, port: u16, schema: &Schema) -> PostgresOptions {
        self.by_way_of(port, &format!("{},pg_catalog", schema.name))
    }

    /// The same tables by way of another port.
    pub(crate) fn through(&self, port: u16, schema: &Schema) -> PostgresOptions {
        self.by_way_of(port, &schema.name)
    }

    fn by_way_of(&self, port: u16, search_path: &str) -> PostgresOptions {
        let address = format!(
            "postgres://shoal@127.0.0.1:{port}/postgres?sslmode=disable&options[search_path]={search_path}"
        );
        PostgresOptions::new(&address, Some(PASSWORD)).unwrap()
    }

    /// A schema of a test of its own, empty.
    pub(crate) async fn empty(&self) -> Schema {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("t{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let address = self.address(&name).await;
        Schema {
            options: PostgresOptions::new(&address, Some(PASSWORD)).unwrap(),
            name,
        }
    }

    /// The same with the tables in it.
    pub(crate) async fn migrated(&self) -> Schema {
        let schema = self.empty().await;
        store::migrate_tables(&schema.options.clone().into())
            .await
            .unwrap();
        schema
    }

    /// A connection beside the store, to the same schema.
    pub(crate) async fn beside(&self, schema: &Schema) -> PgConnection {
        let mut connection = PgConnection::connect(&self.url("postgres", "shoal"))
            .await
            .unwrap();
        let set = format!("SET search_path = {}", schema.name);
        sqlx::raw_sql(AssertSqlSafe(set))
            .execute(&mut connection)
            .await
            .unwrap();
        connection
    }
}

/// Where a test has its tables.
#[derive(Debug, Clone)]
pub(crate) struct Schema {
    pub(crate) name: String,
    pub(crate) options: PostgresOptions,
}

fn serve(bin: &Path, data: &Path, port: u16) -> Child {
    command(&bin.join("postgres"))
        .arg("-D")
        .arg(data)
        .args(["-h", "127.0.0.1", "-p", &port.to_string(), "-k", ""])
        // What the machine's page cache holds survives the death of a process.
        .args(["-c", "fsync=off", "-c", "shared_buffers=64MB"])
        .args(["-c", "log_min_messages=fatal"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

impl Drop for Postgres {
    fn drop(&mut self) {
        super::signal("-QUIT", &self.server.id().to_string());
        let _ = self.server.wait();
        drop(self.alive.take());
        let _ = self.guard.wait();
    }
}

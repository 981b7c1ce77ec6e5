//! The database. All SQL of the coordinator is in this folder: a file for each noun, a function for each statement, every
//! statement a constant.
//!
//! There is one [`Store`], which the writer owns; everything that changes goes through its [`Store::write`], one transaction
//! for a whole batch. There are many [`Reader`]s, which see what is committed and never wait for the writer. `sqlx`'s types
//! stop at the edge of this folder.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use promptfield_core::scheduler::{Change, Rows, Took};
use promptfield_core::time::Timestamp;
use sqlx::migrate::{Migrate as _, MigrateError, Migrator};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteQueryResult,
    SqliteSynchronous,
};
use sqlx::{ConnectOptions, Connection};

mod attempts;
mod backup;
mod basis;
mod batch;
mod bulk;
mod cost;
mod events;
mod experiments;
mod faults;
mod files;
mod identities;
mod jobs;
mod keys;
mod needs;
mod pilots;
mod readiness;
mod removal;
mod results;
mod telemetry;
#[cfg(test)]
mod tests;
mod tokens;
mod unfinished;
mod webhooks;
mod workers;

pub use backup::{Care, Health};
use files::Files;
pub use files::network_file_system;
pub(crate) use keys::{KeptAnswer, Key};
pub(crate) use removal::{PIECE, Removal, Reported};
pub(crate) use telemetry::Telemetry;
pub(crate) use tokens::{TokenChange, TokenHash, TokenRecord};
pub(crate) use webhooks::{AddressHash, Told};

static MIGRATIONS: Migrator = sqlx::migrate!("../migrations");

const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Rows that SQLite's thread may read ahead.
const ROWS_AHEAD: usize = 1024;
const READ_CONNECTIONS: u32 = 4;
/// How long a request waits for a read connection.
const READ_PATIENCE: Duration = Duration::from_secs(10);

/// What to do when the files aren't those that are open.
const WAY_OUT: &str = "put it back, or stop the coordinator, restore a backup, and start it";

/// Why the database didn't do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// Its folder can't be made, or its lock can't be opened.
    #[error("can't prepare `{}`", path.display())]
    Prepare { path: PathBuf, source: io::Error },
    /// A file of it is gone, or can't be looked at.
    #[error("`{name}`, which this coordinator has open, can't be found in its folder: {WAY_OUT}")]
    Gone { name: String, source: io::Error },
    /// Another file lies where one of it lay.
    #[error("`{name}` is another file than this coordinator has open: {WAY_OUT}")]
    Replaced { name: String },
    /// Somebody else has it.
    #[error("another coordinator uses it: stop that one, or use another database")]
    InUse,
    /// It was written by a later version.
    #[error(
        "the database has schema {found}, and this version of Promptfield knows schemas up to {known}: use the version \
         that wrote it, or another database"
    )]
    Newer { found: i64, known: i64 },
    /// Bringing it to the current schema failed.
    #[error("can't bring the database to schema {known}")]
    Migrate { known: i64, source: Box<MigrateError> },
    /// All connections that read are taken, or closed already.
    #[error("can't {doing}: no connection was free")]
    NoConnection { doing: &'static str },
    /// A statement failed.
    #[error("can't {doing}")]
    Failed { doing: &'static str, source: Box<dyn std::error::Error + Send + Sync> },
    /// A statement that must change one row changed another number of rows.
    #[error("can't {doing}: {rows} rows were found, not one")]
    NotOne { doing: &'static str, rows: u64 },
    /// A statement over several rows changed another number of rows.
    #[error("can't {doing}: {changed} rows were changed, not {expected}")]
    NotAll { doing: &'static str, expected: u64, changed: u64 },
    /// A row can't be understood.
    #[error("can't understand {what} in the database")]
    Damaged { what: String, source: Box<dyn std::error::Error + Send + Sync> },
}

/// Says what was being done when a statement failed.
trait Doing<T> {
    fn doing(self, doing: &'static str) -> Result<T, StoreError>;
}

impl<T> Doing<T> for Result<T, sqlx::Error> {
    fn doing(self, doing: &'static str) -> Result<T, StoreError> {
        self.map_err(|source| match source {
            sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed => StoreError::NoConnection { doing },
            // What SQLite says, without what it's wrapped in, which says it again.
            sqlx::Error::Database(source) => StoreError::Failed { doing, source: source.into_error() },
            source => StoreError::Failed { doing, source: source.into() },
        })
    }
}

/// Accepts a statement that changed exactly one row.
fn one(result: SqliteQueryResult, doing: &'static str) -> Result<(), StoreError> {
    match result.rows_affected() {
        1 => Ok(()),
        rows => Err(StoreError::NotOne { doing, rows }),
    }
}

/// Names the row that can't be understood.
fn damaged<E>(what: &'static str, id: i64) -> impl FnOnce(E) -> StoreError
where
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    move |source| StoreError::Damaged { what: format!("{what} {id}"), source: source.into() }
}

/// What one transaction writes.
#[derive(Debug, Default)]
pub(crate) struct Writes {
    /// The scheduler's changes, in order.
    pub(crate) changes: Vec<Change>,
    /// What running jobs reported.
    pub(crate) telemetry: Vec<Telemetry>,
    /// What submissions were called, and how they were answered.
    pub(crate) keys: Vec<KeptAnswer>,
    /// Changes of tokens.
    pub(crate) tokens: Vec<TokenChange>,
    /// What webhooks were told.
    pub(crate) told: Vec<Told>,
    /// Somebody asks whether the database can be written.
    pub(crate) readiness: Option<Timestamp>,
}

impl Writes {
    pub(crate) const fn is_empty(&self) -> bool {
        let Self { changes, telemetry, keys, tokens, told, readiness } = self;
        let reported = telemetry.is_empty() && told.is_empty();
        changes.is_empty() && reported && keys.is_empty() && tokens.is_empty() && readiness.is_none()
    }

    /// Telemetry alone isn't worth an fsync, nor is what a webhook was told.
    fn durability(&self) -> Durability {
        let Self { changes, keys, tokens, readiness, .. } = self;
        let lasting = tokens.iter().any(TokenChange::is_lasting);
        let lasting = lasting || !changes.is_empty() || !keys.is_empty() || readiness.is_some();
        if lasting { Durability::Full } else { Durability::Normal }
    }
}

/// What a commit waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Durability {
    /// The operating system: a power failure may undo the commit, but nothing that was durable before it.
    Normal,
    /// The disk.
    Full,
}

impl Durability {
    const fn pragma(self) -> &'static str {
        match self {
            Self::Normal => "PRAGMA synchronous = NORMAL",
            Self::Full => "PRAGMA synchronous = FULL",
        }
    }
}

/// The connection that writes. There is only one for a database, in all processes: it holds a lock beside the file.
#[derive(Debug)]
pub(crate) struct Store {
    connection: SqliteConnection,
    durability: Durability,
    files: Files,
    _lock: fs_err::File,
}

impl Store {
    /// Opens the database, makes it and its folder if there is none, and brings it to the current schema.
    pub(crate) async fn open(path: &Path) -> Result<Self, StoreError> {
        let lock = lock(path)?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT)
            .statement_cache_capacity(bulk::PREPARED)
            // A start reads every job.
            .row_buffer_size(ROWS_AHEAD)
            .disable_statement_logging();
        let mut connection = options.connect().await.doing("open the database")?;
        migrate(path, &mut connection).await?;
        let files = Files::of(path, lock.file())?;
        Ok(Self { connection, durability: Durability::Full, files, _lock: lock })
    }

    /// Everything that the scheduler needs to go on.
    pub(crate) async fn load(&mut self) -> Result<Rows, StoreError> {
        self.execute("BEGIN").await.doing("begin to read")?;
        let rows = self.read().await;
        // It fails where there is nothing left to roll back.
        let _ = self.execute("ROLLBACK").await;
        rows
    }

    async fn read(&mut self) -> Result<Rows, StoreError> {
        let snapshot = &mut self.connection;
        let recipes = jobs::load_recipes(snapshot).await?;
        Ok(Rows {
            experiments: experiments::load(snapshot).await?,
            jobs: jobs::load(snapshot, &recipes).await?,
            recipes,
            links: experiments::load_links(snapshot).await?,
            workers: workers::load(snapshot).await?,
            last_worker: workers::last(snapshot).await?,
            needs: needs::load(snapshot).await?,
            spared: needs::load_spared(snapshot).await?,
            unfinished: unfinished::load(snapshot).await?,
            setbacks: faults::load_setbacks(snapshot).await?,
            faults: faults::load(snapshot).await?,
            bases: results::load_bases(snapshot).await?,
            superseded: results::load_superseded(snapshot).await?,
            readings: basis::load_readings(snapshot).await?,
            pins: basis::load_pins(snapshot).await?,
            pools: pilots::load_pools(snapshot).await?,
            pilots: pilots::load(snapshot).await?,
            last_pilot: pilots::last(snapshot).await?,
            last_lease: attempts::last(snapshot).await?,
            last_sequence: events::last_sequence(snapshot).await?,
        })
    }

    /// How long jobs took, as far back as it matters.
    pub(crate) async fn durations(&mut self) -> Result<Vec<Took>, StoreError> {
        cost::durations(&mut self.connection).await
    }

    /// By what this coordinator's pilots are told from another's: 8 hexadecimal digits.
    pub(crate) async fn instance(&mut self) -> Result<String, StoreError> {
        pilots::instance(&mut self.connection).await
    }

    /// Every token there ever was, oldest first.
    pub(crate) async fn load_tokens(&mut self) -> Result<Vec<TokenRecord>, StoreError> {
        tokens::load(&mut self.connection).await
    }

    /// Writes all of it or nothing. When this returns, changes are on the disk.
    pub(crate) async fn write(&mut self, writes: &Writes) -> Result<(), StoreError> {
        self.wait_for(writes.durability()).await?;
        self.execute("BEGIN IMMEDIATE").await.doing("begin to write")?;
        let written = self.insert(writes).await;
        self.end(written).await
    }

    async fn insert(&mut self, writes: &Writes) -> Result<(), StoreError> {
        let connection = &mut self.connection;
        batch::Batch::sorted(&writes.changes).write(connection).await?;
        for report in &writes.telemetry {
            telemetry::append(connection, report).await?;
        }
        for kept in &writes.keys {
            keys::insert(connection, kept).await?;
        }
        for change in &writes.tokens {
            tokens::write(connection, change).await?;
        }
        for told in &writes.told {
            webhooks::set(connection, told).await?;
        }
        if let Some(at) = writes.readiness {
            readiness::note(connection, at).await?;
        }
        Ok(())
    }

    /// Commits what went well, and leaves no transaction behind. `SQLite` rolls back by itself when a disk is full, of which sqlx's
    /// own transactions know nothing: the next one would not begin.
    async fn end<T>(&mut self, done: Result<T, StoreError>) -> Result<T, StoreError> {
        let committed = match done {
            // What is written into a file that nobody finds again is lost.
            Ok(value) => match self.files.check() {
                Ok(()) => self.execute("COMMIT").await.doing("commit").map(|()| value),
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        };
        if committed.is_err() {
            // It fails where there is nothing left to roll back.
            let _ = self.execute("ROLLBACK").await;
        }
        committed
    }

    async fn execute(&mut self, statement: &'static str) -> Result<(), sqlx::Error> {
        sqlx::query(statement).execute(&mut self.connection).await.map(drop)
    }

    /// Chooses what the next commits wait for.
    async fn wait_for(&mut self, durability: Durability) -> Result<(), StoreError> {
        if durability != self.durability {
            self.execute(durability.pragma()).await.doing("choose what a commit waits for")?;
            self.durability = durability;
        }
        Ok(())
    }

    /// What a submission's key stands for, if it isn't too old.
    pub(crate) async fn answer_of(&mut self, key: &str, now: Timestamp) -> Result<Option<KeptAnswer>, StoreError> {
        keys::find(&mut self.connection, key, now).await
    }

    /// Closes the file in order.
    pub(crate) async fn close(self) -> Result<(), StoreError> {
        self.connection.close().await.doing("close the database")
    }
}

/// Takes the lock file beside the database. The operating system lets it go when this process ends, however it ends.
fn lock(database: &Path) -> Result<fs_err::File, StoreError> {
    if let Some(folder) = database.parent() {
        fs_err::create_dir_all(folder).map_err(|source| StoreError::Prepare { path: folder.to_owned(), source })?;
    }
    let path = files::beside(database, ".lock");
    let unusable = |source| StoreError::Prepare { path: path.clone(), source };
    let file = fs_err::OpenOptions::new().create(true).write(true).truncate(false).open(&path).map_err(unusable)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(StoreError::InUse),
        Err(std::fs::TryLockError::Error(source)) => Err(unusable(source)),
    }
}

/// How a database is opened that is only read.
fn read_only(path: &Path) -> SqliteConnectOptions {
    let options = SqliteConnectOptions::new().filename(path).read_only(true);
    options.busy_timeout(BUSY_TIMEOUT).disable_statement_logging()
}

/// The latest schema that this version knows.
fn known_schema() -> i64 {
    MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or_default()
}

async fn migrate(path: &Path, connection: &mut SqliteConnection) -> Result<(), StoreError> {
    let known = known_schema();
    let failed = |error| match error {
        MigrateError::VersionMissing(found) if found > known => StoreError::Newer { found, known },
        error => StoreError::Migrate { known, source: Box::new(error) },
    };
    // Not `run`: its future isn't `Send` for a borrowed connection.
    MIGRATIONS.run_direct(Some(identities::SCHEMA - 1), connection, false).await.map_err(failed)?;
    update_identities(path, connection, failed).await?;
    MIGRATIONS.run_direct(None, connection, false).await.map_err(failed)
}

/// Brings a database to schema 14, of which a part is a step of the program, in one transaction. A database with jobs is copied before.
async fn update_identities(
    path: &Path,
    connection: &mut SqliteConnection,
    failed: impl Fn(MigrateError) -> StoreError,
) -> Result<(), StoreError> {
    let current: i64 = sqlx::query_scalar(backup::SCHEMA).fetch_one(&mut *connection).await.doing("read the schema")?;
    if current >= identities::SCHEMA {
        return Ok(());
    }
    let Some(migration) = MIGRATIONS.iter().find(|migration| migration.version == identities::SCHEMA) else {
        return Ok(());
    };
    let jobs: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM job)")
        .fetch_one(&mut *connection)
        .await
        .doing("look for jobs")?;
    if jobs {
        let copy = files::beside(path, &format!(".schema-{current}"));
        let part = files::beside(path, &format!(".schema-{current}.partial"));
        let unusable = |source| StoreError::Prepare { path: copy.clone(), source };
        // What an earlier start left when it was broken off.
        match fs_err::remove_file(&part) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(unusable(error)),
            _ => {}
        }
        backup::copy(connection, &part).await?;
        fs_err::rename(&part, &copy).map_err(unusable)?;
        tracing::info!("the database is copied to `{}` before its jobs get new identities", copy.display());
    }
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.doing("begin to change identities")?;
    transaction.apply("_sqlx_migrations", migration).await.map_err(&failed)?;
    identities::update(&mut transaction).await?;
    transaction.commit().await.doing("commit the new identities")
}

/// A connection pool that only reads. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Reader {
    pool: SqlitePool,
}

impl Reader {
    /// Reads from a database that a [`Store`] has opened.
    ///
    /// All connections are opened here, kept, and handed out without a test: one that is being opened or tested when its reader
    /// gives up is closed by its own thread some time later, perhaps after [`Reader::close`].
    pub(crate) async fn open(path: &Path) -> Result<Self, StoreError> {
        let pool = SqlitePoolOptions::new()
            .max_connections(READ_CONNECTIONS)
            .min_connections(READ_CONNECTIONS)
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false)
            .acquire_timeout(READ_PATIENCE)
            .connect_with(read_only(path))
            .await
            .doing("open the database for reading")?;
        Ok(Self { pool })
    }

    /// Closes all connections.
    pub(crate) async fn close(&self) {
        self.pool.close().await;
    }
}

//! What results are compared with: what machines found last of the data sets, and the pins of backbones.

use std::collections::BTreeMap;

use promptfield_core::job::basis::{Draw, Reading};
use promptfield_core::job::spec::BasisHash;
use promptfield_core::time::Timestamp;
use sqlx::sqlite::SqliteConnection;

use super::bulk::{Binding, Bulk};
use super::{Doing, StoreError, damaged};

static UPSERT_READING: Bulk = Bulk::new(
    "insert or change what was read of data sets",
    "REPLACE INTO reading (dataset, classes, shots, seed, split_sha256, test_sha256, images_sha256, read_at)",
    "(?, ?, ?, ?, ?, ?, ?, ?)",
    "",
);
static UPSERT_PIN: Bulk =
    Bulk::new("insert or change pins of backbones", "REPLACE INTO backbone_pin (name, sha256)", "(?, ?)", "");
const LOAD_READINGS: &str =
    "SELECT dataset, classes, shots, seed, split_sha256, test_sha256, images_sha256, read_at FROM reading";
const LOAD_PINS: &str = "SELECT name, sha256 FROM backbone_pin";

pub(super) async fn upsert_readings<'q>(
    connection: &mut SqliteConnection,
    readings: &'q [(&'q Draw, Reading)],
) -> Result<(), StoreError> {
    let bind = |query: Binding<'q>, (draw, reading): &'q (&Draw, Reading)| {
        query
            .bind(draw.dataset.as_str())
            .bind(draw.classes.as_str())
            .bind(draw.shots)
            .bind(draw.seed.cast_signed())
            .bind(reading.split.0.as_slice())
            .bind(reading.test.0.as_slice())
            .bind(reading.images.as_ref().map(|hash| hash.0.as_slice()))
            .bind(reading.at.0)
    };
    UPSERT_READING.run(connection, readings, bind).await
}

pub(super) async fn upsert_pins<'q>(
    connection: &mut SqliteConnection,
    pins: &'q [(&'q str, BasisHash)],
) -> Result<(), StoreError> {
    let bind = |query: Binding<'q>, (name, sha256): &'q (&str, BasisHash)| query.bind(*name).bind(sha256.0.as_slice());
    UPSERT_PIN.run(connection, pins, bind).await
}

type Unreadable = Box<dyn std::error::Error + Send + Sync>;
type Row = (String, String, u32, i64, Vec<u8>, Vec<u8>, Option<Vec<u8>>, i64);

pub(super) async fn load_readings(connection: &mut SqliteConnection) -> Result<BTreeMap<Draw, Reading>, StoreError> {
    let rows: Vec<Row> =
        sqlx::query_as(LOAD_READINGS).fetch_all(connection).await.doing("read what was found of the data sets")?;
    let reading = |(dataset, classes, shots, seed, split, test, images, at): Row| {
        let draw = Draw { dataset, classes: classes.parse()?, shots, seed: seed.cast_unsigned() };
        let images = images.map(hash).transpose()?;
        Ok((draw, Reading { split: hash(split)?, test: hash(test)?, images, at: Timestamp(at) }))
    };
    let all: Result<_, Unreadable> = rows.into_iter().map(reading).collect();
    all.map_err(damaged("a reading, of those", 0))
}

pub(super) async fn load_pins(connection: &mut SqliteConnection) -> Result<BTreeMap<String, BasisHash>, StoreError> {
    let rows: Vec<(String, Vec<u8>)> =
        sqlx::query_as(LOAD_PINS).fetch_all(connection).await.doing("read the pins of backbones")?;
    rows.into_iter().map(|(name, sha256)| Ok((name, hash(sha256).map_err(damaged("a backbone's pin", 0))?))).collect()
}

/// A hash's column.
pub(super) fn hash(bytes: Vec<u8>) -> Result<BasisHash, &'static str> {
    bytes.try_into().map(BasisHash).map_err(|_| "a hash isn't 32 bytes long")
}

//! `/backup`: the database as one file.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use tokio::sync::Mutex;
use tokio_util::io::ReaderStream;

use super::Shared;
use super::problem::ApiError;
use crate::store::Reader;

/// Where copies lie until they are sent: beside the database, and never where a client says. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Copies {
    folder: Arc<Mutex<PathBuf>>,
}

impl Copies {
    /// Removes what a coordinator left that died while it copied.
    pub(crate) async fn beside(database: &Path) -> io::Result<Self> {
        let folder = database.with_file_name("copies");
        if fs_err::tokio::try_exists(&folder).await? {
            fs_err::tokio::remove_dir_all(&folder).await?;
        }
        fs_err::tokio::create_dir_all(&folder).await?;
        Ok(Self { folder: Arc::new(Mutex::new(folder)) })
    }

    /// A copy of the database, open and without a name: it's gone when it's closed.
    async fn make(&self, reader: &Reader) -> Result<(tokio::fs::File, u64), ApiError> {
        // One at a time: each takes as much room as the database.
        let Ok(folder) = self.folder.try_lock() else {
            return Err(ApiError::Unavailable("another backup is being made".to_owned()));
        };
        let failed = |error: io::Error| ApiError::Internal(error.into());
        let place = tempfile::tempdir_in(&*folder).map_err(failed)?;
        let path = place.path().join("copy.db");
        reader.copy(&path).await?;
        let file = tokio::fs::File::open(&path).await.map_err(failed)?;
        let length = file.metadata().await.map_err(failed)?.len();
        place.close().map_err(failed)?;
        Ok((file, length))
    }
}

/// Sends a copy of the database as it is now. Nothing waits for it.
#[utoipa::path(
    post,
    path = "/backup",
    operation_id = "backup",
    tag = "service",
    responses((status = 200, description = "The copy, a database file.", content_type = "application/vnd.sqlite3")),
    security(("bearer" = ["admin"])),
)]
pub(super) async fn backup(State(app): Shared) -> Result<Response, ApiError> {
    let (file, length) = app.copies.make(&app.reader).await?;
    let headers = [
        (header::CONTENT_TYPE, "application/vnd.sqlite3".to_owned()),
        (header::CONTENT_LENGTH, length.to_string()),
        (header::CACHE_CONTROL, "no-store".to_owned()),
    ];
    Ok((headers, Body::from_stream(ReaderStream::with_capacity(file, 1 << 16))).into_response())
}

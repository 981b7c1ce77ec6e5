//! `backup`: a copy of the coordinator's database.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use promptfield_core::input::InvalidInput;
use promptfield_server::{Care, Health};

use crate::admin_access::AdminAccess;
use crate::context::{Context, CoordinatorArgs};
use crate::exit;

#[derive(Debug, clap::Args)]
pub(crate) struct BackupArgs {
    /// The file to make.
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) coordinator: CoordinatorArgs,
}

/// Writes beside the file, checks, and gives it its name last: a file of that name is a whole backup.
pub(super) async fn run(context: &Context, args: BackupArgs) -> anyhow::Result<u8> {
    let path = &args.file;
    if path.symlink_metadata().is_ok() {
        return Err(
            InvalidInput::new("FILE", path.display(), "a file that isn't there: backups replace nothing").into()
        );
    }
    let access = AdminAccess::open(context, &args.coordinator).await?;
    let partial = beside(path);
    if partial.is_file() {
        // Of a backup that was broken off.
        fs_err::remove_file(&partial)?;
    }
    let health = match save(access, &partial).await {
        Ok(health) => health,
        Err(error) => {
            let _ = fs_err::remove_file(&partial);
            return Err(error);
        }
    };
    fs_err::rename(&partial, path)?;
    fs_err::File::open(folder(path))?.sync_all()?;
    let bytes = fs_err::metadata(path)?.len();
    context.print(&serde_json::json!({ "file": path, "bytes": bytes, "schema": health.schema }), |_| {
        format!("{} has {bytes} bytes, schema {}, and is sound", path.display(), health.schema)
    })?;
    Ok(exit::DONE)
}

async fn save(access: AdminAccess, partial: &Path) -> anyhow::Result<Health> {
    access.copy(partial).await?;
    let health = Health::of(partial, Care::Full).await.context("the copy can't be read")?;
    anyhow::ensure!(health.damage.is_empty(), "the copy is damaged: {}", health.damage.join(", "));
    anyhow::ensure!(
        health.schema <= health.known,
        "the coordinator's database has schema {}, and this program knows schemas up to {}: use the coordinator's version",
        health.schema,
        health.known
    );
    fs_err::File::open(partial)?.sync_all()?;
    Ok(health)
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".partial");
    name.into()
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}

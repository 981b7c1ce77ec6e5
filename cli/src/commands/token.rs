//! `token`: who may ask a coordinator for what.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::SystemTime;

use anyhow::Context as _;
use promptfield_core::input::InvalidInput;
use promptfield_core::wire::access::{TokenCreated, TokenRequest};

use super::Context;
use super::door::Door;
use crate::args::{TokenCommand, TokenCreateArgs};
use crate::exit::{self, Coded};
use crate::{output, print};

pub(super) async fn token(context: &Context, what: TokenCommand) -> anyhow::Result<u8> {
    match what {
        TokenCommand::Create(args) => create(context, args).await,
        TokenCommand::List(coordinator) => {
            let tokens = Door::open(context, coordinator.url.as_deref()).await?.tokens().await?;
            if context.json {
                output::json(&tokens)?;
            } else {
                print::line(output::tokens(&tokens, SystemTime::now().into()))?;
            }
            Ok(exit::DONE)
        }
        TokenCommand::Revoke(args) => {
            Door::open(context, args.coordinator.url.as_deref()).await?.revoke_token(args.id).await?;
            if context.json {
                output::json(&serde_json::json!({ "revoked": args.id }))?;
            } else {
                print::line(format_args!("token {} is revoked", args.id))?;
            }
            Ok(exit::DONE)
        }
    }
}

async fn create(context: &Context, args: TokenCreateArgs) -> anyhow::Result<u8> {
    let request =
        TokenRequest { name: args.name, scopes: args.scopes, expires_in_s: args.expires.map(|span| span.0.as_secs()) };
    let request = request.checked()?;
    let Some(path) = &args.output else {
        let created = Door::open(context, args.coordinator.url.as_deref()).await?.create_token(request).await?;
        let TokenCreated { secret, token } = &created;
        let text = if context.json {
            serde_json::to_string_pretty(&created)?
        } else {
            print::talk(format_args!("token {} `{}`; keep it, it can't be shown again:", token.id, token.name));
            secret.expose().to_owned()
        };
        // A reader that is gone has got no token either.
        print::write(format_args!("{text}\n")).map_err(|source| Coded::Unwritten { source }).with_context(|| {
            format!("nobody has got token {id}: end it with `promptfield token revoke {id}`", id = token.id)
        })?;
        return Ok(exit::DONE);
    };
    // The file comes first: a token that nobody has got would stay valid.
    let file = new_file(path)?;
    let created = match Door::open(context, args.coordinator.url.as_deref()).await {
        Ok(door) => door.create_token(request).await,
        Err(error) => Err(error),
    };
    let written = created.and_then(|created| {
        keep(file, &created)?;
        Ok(created)
    });
    let TokenCreated { token, .. } = match written {
        Ok(created) => created,
        Err(error) => {
            fs_err::remove_file(path)?;
            return Err(error);
        }
    };
    if context.json {
        output::json(&token)?;
    } else {
        print::line(format_args!("token {} `{}` is in {}", token.id, token.name, path.display()))?;
    }
    Ok(exit::DONE)
}

/// A file that only its owner can read, and that wasn't there.
fn new_file(path: &Path) -> anyhow::Result<std::fs::File> {
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.map_err(|error| {
        InvalidInput::new("--output", path.display(), format!("a file that isn't there and can be made ({error})"))
            .into()
    })
}

fn keep(mut file: std::fs::File, created: &TokenCreated) -> anyhow::Result<()> {
    writeln!(file, "{}", created.secret.expose())?;
    Ok(file.sync_all()?)
}

//! `token`: who may ask a coordinator for what.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::Context as _;
use clap::Subcommand;
use promptfield_core::id::TokenId;
use promptfield_core::input::InvalidInput;
use promptfield_core::wire::access::{Scope, TokenCreated, TokenRequest};

use crate::admin_access::AdminAccess;
use crate::context::{Context, CoordinatorArgs};
use crate::exit::{self, Coded};
use crate::span::Span;
use crate::{output, print};

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token and print it; it can't be shown again. Without a running coordinator its database is used directly.
    Create(TokenCreateArgs),
    /// List the tokens without their secrets.
    List(CoordinatorArgs),
    /// End a token at once.
    Revoke(TokenRevokeArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct TokenCreateArgs {
    /// Whose it is, or what for.
    pub(crate) name: String,
    /// What it permits, separated by commas: `admin`, `submit`, `work`, `read`.
    #[arg(long = "scope", required = true, value_delimiter = ',', value_name = "SCOPES")]
    pub(crate) scopes: Vec<Scope>,
    /// How long it's valid, such as `30d` or `12h` [default: until it's revoked].
    #[arg(long, value_name = "TIME")]
    pub(crate) expires: Option<Span>,
    /// Write the token into a new file that only you can read, instead of printing it.
    #[arg(long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) coordinator: CoordinatorArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct TokenRevokeArgs {
    /// The token's number.
    pub(crate) id: TokenId,
    #[command(flatten)]
    pub(crate) coordinator: CoordinatorArgs,
}

pub(super) async fn run(context: &Context, what: TokenCommand) -> anyhow::Result<u8> {
    match what {
        TokenCommand::Create(args) => create(context, args).await,
        TokenCommand::List(coordinator) => {
            let tokens = AdminAccess::open(context, &coordinator).await?.tokens().await?;
            context.print(&tokens, |tokens| output::tokens(tokens, SystemTime::now().into()))?;
            Ok(exit::DONE)
        }
        TokenCommand::Revoke(args) => {
            AdminAccess::open(context, &args.coordinator).await?.revoke_token(args.id).await?;
            context.print(&serde_json::json!({ "revoked": args.id }), |_| format!("token {} is revoked", args.id))?;
            Ok(exit::DONE)
        }
    }
}

async fn create(context: &Context, args: TokenCreateArgs) -> anyhow::Result<u8> {
    let request =
        TokenRequest { name: args.name, scopes: args.scopes, expires_in_s: args.expires.map(|span| span.0.as_secs()) };
    let request = request.checked()?;
    let Some(path) = &args.output else {
        let created = AdminAccess::open(context, &args.coordinator).await?.create_token(request).await?;
        let token = &created.token;
        let text = context.printed(&created, |created| {
            print::talk(format_args!("token {} `{}`; keep it, it can't be shown again:", token.id, token.name));
            created.secret.expose().to_owned()
        })?;
        // A reader that is gone has got no token either.
        print::write(text).map_err(|source| Coded::Unwritten { source }).with_context(|| {
            format!("nobody has got token {id}: end it with `promptfield token revoke {id}`", id = token.id)
        })?;
        return Ok(exit::DONE);
    };
    // The file comes first: a token that nobody has got would stay valid.
    let file = new_file(path)?;
    let created = match AdminAccess::open(context, &args.coordinator).await {
        Ok(access) => access.create_token(request).await,
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
    context.print(&token, |token| format!("token {} `{}` is in {}", token.id, token.name, path.display()))?;
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

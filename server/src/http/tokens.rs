//! `/tokens`

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use promptfield_core::id::TokenId;
use promptfield_core::wire::access::{Principal, TokenCreated, TokenRequest, TokenSummary};
use promptfield_core::wire::api::Page;

use super::Shared;
use super::extract::{Id, JsonBody, Params};
use super::page::WindowParams;
use super::problem::{ApiError, answer};
use crate::store::TokenChange;
use crate::tokens::TokenError;

/// Makes a token. The secret is in this answer only.
#[utoipa::path(
    post,
    path = "/tokens",
    operation_id = "create_token",
    tag = "tokens",
    request_body = TokenRequest,
    responses(
        (status = 201, description = "The token with its secret, which nobody can ask for again.", body = TokenCreated),
        answer::Unreadable,
        answer::TooLarge,
        answer::Invalid,
    ),
    security(("bearer" = ["admin"])),
)]
pub(super) async fn create(
    State(app): Shared,
    Extension(principal): Extension<Principal>,
    JsonBody(request): JsonBody<TokenRequest>,
) -> Result<Response, ApiError> {
    let (secret, record) = app.tokens.prepare(request, app.clock.now())?;
    let token = record.token.clone();
    app.writer.change_tokens(vec![TokenChange::Created(record)]).await?;
    tracing::info!(token = %token.id, name = token.name, by = principal.name, "token {} was made", token.id);
    let no_store = [(header::CACHE_CONTROL, "no-store")];
    Ok((StatusCode::CREATED, no_store, Json(TokenCreated { secret, token })).into_response())
}

/// All tokens there ever were, without their secrets, oldest first.
#[utoipa::path(
    get,
    path = "/tokens",
    operation_id = "list_tokens",
    tag = "tokens",
    params(WindowParams),
    responses(
        (status = 200, description = "A page of the tokens.", body = Page<TokenSummary>),
        answer::Unreadable,
    ),
    security(("bearer" = ["admin"])),
)]
pub(super) async fn list(
    State(app): Shared,
    Params(window): Params<WindowParams>,
) -> Result<Json<Page<TokenSummary>>, ApiError> {
    let window = window.window().map_err(ApiError::Unreadable)?;
    Ok(Json(window.cut(app.tokens.list(), |_| true, |token| token)))
}

/// Who asks, and what they may do: what a client offers depends on it.
#[utoipa::path(
    get,
    path = "/access",
    operation_id = "get_access",
    tag = "tokens",
    responses((status = 200, description = "The token's name and its scopes.", body = Principal)),
    security(("bearer" = ["read"])),
)]
pub(super) async fn own(Extension(principal): Extension<Principal>) -> Json<Principal> {
    Json(principal)
}

/// Ends a token at once. Ending it again changes nothing.
#[utoipa::path(
    delete,
    path = "/tokens/{id}",
    operation_id = "revoke_token",
    tag = "tokens",
    params(("id" = TokenId, Path, description = "The token's identifier.")),
    responses((status = 204, description = "It's no longer valid."), answer::Unreadable, answer::NotFound),
    security(("bearer" = ["admin"])),
)]
pub(super) async fn revoke(
    State(app): Shared,
    Extension(principal): Extension<Principal>,
    Id(id): Id<TokenId>,
) -> Result<StatusCode, ApiError> {
    if app.tokens.get(id).is_none() {
        return Err(ApiError::NotFound(format!("there is no token {id}")));
    }
    app.writer.change_tokens(vec![TokenChange::Revoked { id, at: app.clock.now() }]).await?;
    tracing::info!(token = %id, by = principal.name, "token {id} was revoked");
    Ok(StatusCode::NO_CONTENT)
}

impl From<TokenError> for ApiError {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::Invalid(input) => Self::Invalid(input),
            error @ TokenError::Random(_) => Self::Internal(error.into()),
        }
    }
}

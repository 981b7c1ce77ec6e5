//! Bearer tokens: what they permit, and how they travel. The coordinator keeps only their SHA-256.

use serde::{Deserialize, Serialize};

use crate::id::TokenId;
use crate::input::InvalidInput;
use crate::job::spec::is_hex;
use crate::names::{named, shown_name};
use crate::time::Timestamp;

named! {
    /// What a token permits.
    pub enum Scope("scopes") {
        /// Everything, tokens and backups included.
        Admin = "admin",
        /// Submitting, cancelling and trying again, and reading.
        Submit = "submit",
        /// What a worker does, and reading.
        Work = "work",
        /// Looking at everything but tokens.
        Read = "read",
    }
}

impl Scope {
    /// Whether who has this scope may do what needs `needed`.
    pub const fn permits(self, needed: Self) -> bool {
        matches!(
            (self, needed),
            (Self::Admin, _)
                | (Self::Submit, Self::Submit | Self::Read)
                | (Self::Work, Self::Work | Self::Read)
                | (Self::Read, Self::Read)
        )
    }
}

/// A token as its holder has it: `pf_` and 64 hexadecimal digits. It shows itself only to [`Secret::expose`].
#[derive(Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(transparent)]
#[schema(value_type = String, example = "pf_…")]
pub struct Secret(String);

impl Secret {
    /// What every token begins with, so that people and scanners know one when they see it.
    pub const PREFIX: &'static str = "pf_";

    /// The token that 32 random bytes make.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(format!("{}{}", Self::PREFIX, crate::job::spec::hex(&bytes)))
    }

    /// Its text, for an `Authorization` header or the file that keeps it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for Secret {
    type Err = InvalidInput;

    fn from_str(text: &str) -> Result<Self, InvalidInput> {
        let digits = text.strip_prefix(Self::PREFIX).unwrap_or_default();
        if is_hex(digits, 64) {
            Ok(Self(text.to_owned()))
        } else {
            // What was given may be a secret of something else.
            let expected = format!("`{}` and 64 lower-case hexadecimal digits", Self::PREFIX);
            Err(InvalidInput::new("token", "(not shown)", expected))
        }
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Secret({}…)", Self::PREFIX)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Who asks, and what they may do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Principal {
    /// The token; `null` where none is needed.
    #[serde(default)]
    pub token: Option<TokenId>,
    /// The token's name; `this machine` where no token is needed.
    pub name: String,
    /// What it permits.
    pub scopes: Vec<Scope>,
}

impl Principal {
    /// Whether it permits what needs `needed`.
    pub fn may(&self, needed: Scope) -> bool {
        self.scopes.iter().any(|scope| scope.permits(needed))
    }
}

/// What a new token is to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenRequest {
    /// Whose it is, or what for.
    pub name: String,
    /// What it permits; at least one.
    pub scopes: Vec<Scope>,
    /// Seconds until it's no longer valid; `null` for never.
    #[serde(default)]
    pub expires_in_s: Option<u64>,
}

impl TokenRequest {
    /// Ten years.
    pub const LONGEST_S: u64 = 10 * 366 * 24 * 60 * 60;

    /// The request, its scopes in order and each once, if it can be met.
    pub fn checked(mut self) -> Result<Self, InvalidInput> {
        shown_name("name", &self.name)?;
        self.scopes.sort_unstable();
        self.scopes.dedup();
        if self.scopes.is_empty() {
            let names: Vec<_> = Scope::ALL.iter().map(|scope| format!("`{scope}`")).collect();
            return Err(InvalidInput::new("scopes", "[]", format!("at least one of {}", names.join(", "))));
        }
        if let Some(seconds) = self.expires_in_s.filter(|seconds| !(1..=Self::LONGEST_S).contains(seconds)) {
            let expected =
                format!("a whole number from 1 to {}, or null for a token that stays valid", Self::LONGEST_S);
            return Err(InvalidInput::new("expires_in_s", seconds, expected));
        }
        Ok(self)
    }
}

/// A token in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TokenSummary {
    /// Its identifier.
    pub id: TokenId,
    /// Whose it is, or what for.
    pub name: String,
    /// What it permits.
    pub scopes: Vec<Scope>,
    /// When it was made.
    pub created_at: Timestamp,
    /// From when on it's no longer valid; `null` for never.
    pub expires_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
    /// When it was last shown; a few minutes before a coordinator's death may be missing.
    pub last_used_at: Option<Timestamp>,
}

impl TokenSummary {
    /// Whether it opens anything at `now`.
    pub fn is_valid(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|end| now < end)
    }
}

/// A new token. Its secret is in this answer and nowhere else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TokenCreated {
    /// What to show.
    pub secret: Secret,
    /// What is known of it.
    #[serde(flatten)]
    pub token: TokenSummary,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_permit_what_they_say_and_no_more() {
        let permitted = |scope: Scope| -> Vec<&str> {
            Scope::ALL.iter().filter(|needed| scope.permits(**needed)).map(|needed| needed.as_str()).collect()
        };
        assert_eq!(permitted(Scope::Admin), ["admin", "submit", "work", "read"]);
        assert_eq!(permitted(Scope::Submit), ["submit", "read"]);
        assert_eq!(permitted(Scope::Work), ["work", "read"]);
        assert_eq!(permitted(Scope::Read), ["read"]);
    }

    #[test]
    fn a_secret_shows_itself_to_nobody_by_accident() {
        let secret = Secret::from_bytes([0xab; 32]);
        assert_eq!(secret.expose(), format!("pf_{}", "ab".repeat(32)));
        assert_eq!(secret.expose().parse::<Secret>().unwrap(), secret);
        assert!(!format!("{secret:?}").contains("abab"));
        let refusal = "hunter2".parse::<Secret>().unwrap_err().to_string();
        assert!(refusal.starts_with("`token`: `(not shown)`") && !refusal.contains("hunter2"), "{refusal}");
    }

    #[test]
    fn requests_that_make_no_sense_are_refused() {
        let request = |name: &str, scopes: &[Scope], expires_in_s| TokenRequest {
            name: name.into(),
            scopes: scopes.to_vec(),
            expires_in_s,
        };
        let field = |request: TokenRequest| request.checked().unwrap_err().errors.remove(0).field;
        assert_eq!(field(request(" ", &[Scope::Read], None)), "name");
        assert_eq!(field(request("a\nb", &[Scope::Read], None)), "name");
        assert_eq!(field(request("a", &[], None)), "scopes");
        assert_eq!(field(request("a", &[Scope::Read], Some(0))), "expires_in_s");
        assert_eq!(field(request("a", &[Scope::Read], Some(u64::MAX))), "expires_in_s");
        let twice = request("a", &[Scope::Read, Scope::Submit, Scope::Read], Some(60)).checked().unwrap();
        assert_eq!(twice.scopes, [Scope::Submit, Scope::Read]);
    }
}

//! Identifiers as types, so that a job can't be taken for a worker.

/// A number that no identifier is.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("expected a whole number from 0 to {}", i64::MAX)]
pub struct OutOfRange;

/// Numbers are signed where they are stored.
fn in_range(number: u64) -> Result<u64, OutOfRange> {
    i64::try_from(number).map(|_| number).map_err(|_| OutOfRange)
}

/// Declares an integer identifier.
macro_rules! id {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
        #[serde(try_from = "u64")]
        pub struct $name(pub u64);

        impl TryFrom<u64> for $name {
            type Error = OutOfRange;

            fn try_from(number: u64) -> Result<Self, OutOfRange> {
                in_range(number).map(Self)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Display::fmt(&self.0, f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = std::num::ParseIntError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let number: u64 = text.parse()?;
                // Numbers are signed where they are stored.
                text.parse::<i64>()?;
                Ok(Self(number))
            }
        }
    )+};
}

id! {
    /// A submitted experiment.
    ExperimentId,
    /// A cell of the matrix.
    JobId,
    /// What many cells of a matrix share.
    RecipeId,
    /// One try of a job on one worker; also the identifier of the lease under which it runs.
    LeaseId,
    /// A worker's registration. A worker process that starts again gets a new one.
    WorkerId,
    /// A position in the event log; later events have greater numbers.
    Sequence,
    /// A bearer token.
    TokenId,
    /// A worker that was started on demand.
    PilotId,
}

/// What a write under a lease must show. Tokens only grow: of two leases of a job, the later has the greater token.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize, utoipa::ToSchema,
)]
#[serde(try_from = "u64")]
pub struct FencingToken(pub u64);

impl TryFrom<u64> for FencingToken {
    type Error = OutOfRange;

    fn try_from(number: u64) -> Result<Self, OutOfRange> {
        in_range(number).map(Self)
    }
}

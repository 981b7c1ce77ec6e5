//! What the writer answers, and to whom.

use promptfield_core::scheduler::{Grant, Reply};
use promptfield_core::wire::api::SubmitResponse;
use tokio::sync::oneshot;

use super::{Replies, WriteError};

/// Who waits for an answer.
pub(super) type Asker<T> = oneshot::Sender<Result<T, WriteError>>;

/// Tells somebody, who may be gone.
pub(super) fn tell<T>(asker: Asker<T>, answer: Result<T, WriteError>) {
    drop(asker.send(answer));
}

/// An answer that waits for the commit.
pub(super) enum Answer {
    Reply(Asker<Reply>, Result<Reply, WriteError>),
    Replies(Asker<Replies>, Result<Replies, WriteError>),
    Submitted(Asker<SubmitResponse>, Result<SubmitResponse, WriteError>),
}

impl Answer {
    /// Sends it; returns the jobs that it grants if nobody is there to take them.
    pub(super) fn send(self) -> Vec<Grant> {
        match self {
            Self::Reply(asker, reply) => {
                if let Err(Ok(Reply::Granted(grants))) = asker.send(reply) {
                    return grants;
                }
            }
            Self::Replies(asker, replies) => tell(asker, replies),
            Self::Submitted(asker, response) => tell(asker, response),
        }
        Vec::new()
    }

    /// Says instead that nothing was stored.
    pub(super) fn refuse(self, error: &WriteError) {
        let error = error.clone();
        match self {
            Self::Reply(asker, _) => tell(asker, Err(error)),
            Self::Replies(asker, _) => tell(asker, Err(error)),
            Self::Submitted(asker, _) => tell(asker, Err(error)),
        }
    }
}

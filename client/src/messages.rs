//! Server-sent events, as far as the coordinator sends them: at most one line of each field.

use std::collections::VecDeque;

use reqwest::Response;

/// A stream of them.
#[derive(Debug)]
pub struct Messages {
    response: Response,
    /// What has come of a message that isn't whole yet.
    rest: Vec<u8>,
    ready: VecDeque<Message>,
}

/// One of them.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// Where it stands in the stream.
    pub id: Option<String>,
    /// Of which kind it is; the usual ones say nothing.
    pub event: Option<String>,
    /// What it says.
    pub data: String,
}

impl Messages {
    pub(crate) const fn new(response: Response) -> Self {
        Self { response, rest: Vec::new(), ready: VecDeque::new() }
    }

    /// The next one; `None` when the stream is over, or broke.
    pub async fn next(&mut self) -> Option<Message> {
        loop {
            if let Some(message) = self.ready.pop_front() {
                return Some(message);
            }
            let chunk = self.response.chunk().await.ok()??;
            self.rest.extend_from_slice(&chunk);
            self.ready.extend(whole(&mut self.rest));
        }
    }

    /// Whether the next one has come already.
    pub fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }
}

/// Takes the messages that are whole out of what has come.
fn whole(rest: &mut Vec<u8>) -> Vec<Message> {
    let Some(end) = rest.windows(2).rposition(|pair| pair == b"\n\n") else { return Vec::new() };
    let complete: Vec<u8> = rest.drain(..end + 2).collect();
    String::from_utf8_lossy(&complete).split("\n\n").filter_map(message).collect()
}

/// A message of its lines; `None` for a comment.
fn message(text: &str) -> Option<Message> {
    let field = |name: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        Some(value.strip_prefix(' ').unwrap_or(value).to_owned())
    };
    Some(Message { id: field("id"), event: field("event"), data: field("data")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_in_any_pieces() {
        let text = b"id: 7-0\ndata: {\"a\":1}\n\n: a comment\n\nevent:end\ndata: \xc3\xa9\n\n";
        let expected = [
            Message { id: Some("7-0".into()), event: None, data: "{\"a\":1}".into() },
            Message { id: None, event: Some("end".into()), data: "\u{e9}".into() },
        ];
        for size in 1..text.len() {
            let (mut rest, mut found) = (Vec::new(), Vec::new());
            for piece in text.chunks(size) {
                rest.extend_from_slice(piece);
                found.extend(whole(&mut rest));
            }
            assert_eq!(found, expected, "{size}");
            assert!(rest.is_empty());
        }
    }
}

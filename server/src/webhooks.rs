//! Webhooks: chat tools and other programs are told when an experiment ends, a job fails for good, or a worker is lost.
//!
//! Each webhook has a task of its own, which reads the event log and sends what is wanted, one after the other. What can't be
//! delivered is tried again, ever more slowly; how far it has come is kept in the database, so that nothing is left out when the
//! coordinator was away. Whoever dies between a delivery and its note delivers it again, under the same `webhook-id`.
//!
//! The headers are those of Standard Webhooks (standardwebhooks.com), version 1: `webhook-id`, `webhook-timestamp` in seconds, and
//! with a secret `webhook-signature`: `v1,` and the HMAC-SHA256 of `id.timestamp.body` in base 64.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use promptfield_core::chain::chain;
use promptfield_core::id::Sequence;
use promptfield_core::input::InvalidInput;
use promptfield_core::scheduler::Event;
use promptfield_core::wire::occasion::Occasion;
use reqwest::redirect::Policy;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::store::{AddressHash, Reader, Told};
use crate::writer::Writer;

const PAGE: u32 = 500;
const PATIENCE: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_mins(5);

/// An address that is told what happens.
#[derive(Clone)]
pub struct Webhook {
    url: reqwest::Url,
    /// What deliveries are signed with.
    secret: Option<Vec<u8>>,
    occasions: Vec<Occasion>,
}

impl std::fmt::Debug for Webhook {
    /// Neither the address's path nor the secret, which are as good as passwords.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Webhook")
            .field("host", &self.host())
            .field("occasions", &self.occasions)
            .finish_non_exhaustive()
    }
}

impl Webhook {
    /// An address that is told of `occasions`, or of everything if there are none. Refuses what isn't an HTTP address.
    pub fn new(url: &str, occasions: Vec<Occasion>) -> Result<Self, InvalidInput> {
        // Its path is as good as a password.
        let refused = || InvalidInput::new("url", "(not shown)", "an address that begins with `https://` or `http://`");
        let parsed = reqwest::Url::parse(url).ok().filter(|url| ["https", "http"].contains(&url.scheme()));
        let occasions = if occasions.is_empty() { Occasion::ALL.to_vec() } else { occasions };
        Ok(Self { url: parsed.ok_or_else(refused)?, secret: None, occasions })
    }

    /// The same, with deliveries that are signed.
    #[must_use]
    pub fn signed_with(self, secret: &str) -> Self {
        Self { secret: Some(secret.as_bytes().to_vec()), ..self }
    }

    fn host(&self) -> &str {
        self.url.host_str().unwrap_or_default()
    }

    fn hash(&self) -> AddressHash {
        Sha256::digest(self.url.as_str()).into()
    }
}

/// What is sent.
#[derive(Debug, Serialize)]
struct Delivery {
    r#type: Occasion,
    /// A sentence, under the name that chat tools look for.
    text: String,
    /// The event as in the log.
    event: Event,
}

/// Delivers to one webhook.
pub(crate) struct Courier {
    pub(crate) webhook: Webhook,
    pub(crate) reader: Reader,
    pub(crate) writer: Writer,
    pub(crate) clock: Clock,
    pub(crate) stop: CancellationToken,
}

impl Courier {
    /// Runs until it's told to stop.
    pub(crate) async fn run(self) {
        let stop = self.stop.clone();
        // What is broken off is done again after the next start.
        let _: Option<()> = stop.run_until_cancelled(self.deliver()).await;
    }

    async fn deliver(&self) {
        let client = match self.client() {
            Ok(client) => client,
            Err(error) => {
                tracing::error!(host = self.webhook.host(), error = chain(&error), "a webhook can't be used");
                return;
            }
        };
        let mut news = self.writer.sequence();
        let end = *news.borrow();
        // One that is new hears of what comes; a later number is of another database.
        let mut pauses = self.pauses("read what a webhook was told");
        let told = loop {
            match self.reader.told(self.webhook.hash()).await {
                Ok(told) => break told,
                Err(error) => pauses.wait(&error).await,
            }
        };
        let mut told = told.map_or(end, |told| told.min(end));
        self.note(told).await;
        loop {
            let last = *news.borrow_and_update();
            if told >= last {
                if news.changed().await.is_err() {
                    return;
                }
                continue;
            }
            let mut pauses = self.pauses("read the events for a webhook");
            let events = loop {
                match self.reader.events_after(told, PAGE).await {
                    Ok(events) => break events,
                    Err(error) => pauses.wait(&error).await,
                }
            };
            for event in events {
                told = event.sequence;
                if let Some(delivery) = self.delivery(event).await {
                    self.send(&client, &delivery).await;
                    self.note(told).await;
                }
            }
        }
    }

    fn client(&self) -> Result<reqwest::Client, reqwest::Error> {
        let builder = reqwest::Client::builder().timeout(PATIENCE).redirect(Policy::none());
        // What isn't needed isn't looked for: a bare container trusts nobody.
        let builder = if self.webhook.url.scheme() == "http" { builder.tls_certs_only([]) } else { builder };
        builder.build()
    }

    /// Where it goes on after the next start. If that can't be written, something is delivered again then.
    async fn note(&self, up_to: Sequence) {
        if let Err(error) = self.writer.note_told(Told { webhook: self.webhook.hash(), up_to }).await {
            tracing::warn!(error = chain(&error), "can't note what a webhook was told");
        }
    }

    /// What is to be sent of an event.
    async fn delivery(&self, event: Event) -> Option<Delivery> {
        let occasion = Occasion::of(&event.kind).filter(|occasion| self.webhook.occasions.contains(occasion))?;
        let kind = event.kind.clone();
        // What the state can't be asked for is sent without its sentence.
        let text = self.writer.look(move |scheduler, _| Occasion::words(scheduler, &kind)).await.ok().flatten();
        Some(Delivery { r#type: occasion, text: text.unwrap_or_default(), event })
    }

    async fn send(&self, client: &reqwest::Client, delivery: &Delivery) {
        let body = serde_json::json!(delivery).to_string();
        let id = format!("promptfield-{}", delivery.event.sequence);
        let mut pauses = self.pauses("deliver to a webhook");
        loop {
            let timestamp = (self.clock.now().0 / 1000).to_string();
            let mut request = client
                .post(self.webhook.url.clone())
                .header("content-type", "application/json")
                .header("webhook-id", &id)
                .header("webhook-timestamp", &timestamp);
            if let Some(secret) = &self.webhook.secret {
                request = request.header("webhook-signature", signature(secret, &id, &timestamp, &body));
            }
            match request.body(body.clone()).send().await.and_then(reqwest::Response::error_for_status) {
                Ok(_) => return,
                // The address isn't for the log.
                Err(error) => pauses.wait(&error.without_url()).await,
            }
        }
    }

    fn pauses(&self, doing: &'static str) -> Pauses<'_> {
        Pauses { host: self.webhook.host(), doing, next: FIRST_PAUSE }
    }
}

/// What is between two attempts: a line in the log, and ever more time.
struct Pauses<'a> {
    host: &'a str,
    doing: &'static str,
    next: Duration,
}

impl Pauses<'_> {
    async fn wait(&mut self, error: &(dyn std::error::Error + Send + Sync)) {
        let Self { host, doing, next } = *self;
        tracing::warn!(host, error = chain(error), "can't {doing}; it's tried again in {} s", next.as_secs_f32());
        tokio::time::sleep(next).await;
        self.next = (next * 2).min(LONGEST_PAUSE);
    }
}

/// `v1,` and the signature in base 64.
fn signature(secret: &[u8], id: &str, timestamp: &str, body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).unwrap_or_else(|_| unreachable!("a key may have any length"));
    mac.update(format!("{id}.{timestamp}.{body}").as_bytes());
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With Python: `base64(hmac.new(b"key", b"id.1.{}", sha256))`.
    #[test]
    fn deliveries_are_signed_as_standard_webhooks_has_it() {
        assert_eq!(signature(b"key", "id", "1", "{}"), "v1,5PVmP2AfJGwnp9flV+flrzfukNWA9zyUdqvI+IQalVs=");
    }

    #[test]
    fn an_address_shows_neither_its_path_nor_its_secret() {
        let webhook = Webhook::new("https://chat.example/hooks/t0ken", Vec::new()).unwrap().signed_with("s3cret");
        let shown = format!("{webhook:?}");
        assert!(shown.contains("chat.example") && !shown.contains("t0ken") && !shown.contains("s3cret"), "{shown}");
        assert_eq!(webhook.occasions.len(), Occasion::ALL.len());
        for url in ["chat.example", "ftp://chat.example", ""] {
            assert_eq!(Webhook::new(url, Vec::new()).unwrap_err().errors[0].field, "url");
        }
    }
}

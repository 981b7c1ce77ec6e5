//! The coordinator behind a certificate.

use std::net::SocketAddr;
use std::path::Path;

use promptfield_server::{Options, Security, StartError, Tls};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::support::{options, run};

/// Makes a certificate for this machine, and options that use it.
fn with_certificate(folder: &Path) -> (Options, reqwest::Certificate) {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let tls = Tls { certificate: folder.join("certificate.pem"), key: folder.join("key.pem") };
    fs_err::write(&tls.certificate, cert.pem()).unwrap();
    fs_err::write(&tls.key, signing_key.serialize_pem()).unwrap();
    let security = Security { tls: Some(tls), ..Security::default() };
    (Options { security, ..options(folder) }, reqwest::Certificate::from_pem(cert.pem().as_bytes()).unwrap())
}

fn client(trusted: &[reqwest::Certificate]) -> reqwest::Client {
    reqwest::Client::builder().tls_certs_only(trusted.iter().cloned()).build().unwrap()
}

fn health(scheme: &str, address: SocketAddr) -> String {
    format!("{scheme}://{address}/api/v1/healthz")
}

#[tokio::test]
async fn who_trusts_the_certificate_is_answered() {
    let folder = tempfile::tempdir().unwrap();
    let (options, certificate) = with_certificate(folder.path());
    let (runtime, coordinator) = run(options).await.unwrap();
    let address = coordinator.address();
    assert_eq!(coordinator.url(), format!("https://{address}"));
    let answer = client(&[certificate]).get(health("https", address)).send().await.unwrap();
    assert_eq!(answer.status(), 204);
    let stranger = client(&[]).get(health("https", address)).send().await.unwrap_err();
    assert!(stranger.is_connect(), "{stranger:?}");
    assert!(client(&[]).get(health("http", address)).send().await.is_err());
    runtime.spawn(coordinator.shutdown()).await.unwrap();
    runtime.shutdown_background();
}

#[tokio::test]
async fn those_who_say_nothing_hold_nobody_up_and_are_let_go() {
    let folder = tempfile::tempdir().unwrap();
    let (options, certificate) = with_certificate(folder.path());
    let (runtime, coordinator) = run(options).await.unwrap();
    let address = coordinator.address();
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    let client = client(&[certificate]);
    assert_eq!(client.get(health("https", address)).send().await.unwrap().status(), 204);
    // The socket's end, or its reset: either way the coordinator has let go.
    let ended = silent[0].read(&mut [0]).await;
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    runtime.spawn(coordinator.shutdown()).await.unwrap();
    runtime.shutdown_background();
}

#[tokio::test]
async fn files_that_are_no_certificate_or_key_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let (good, _) = with_certificate(folder.path());
    let refusal = async |change: &dyn Fn(&mut Tls)| {
        let mut wrong = good.clone();
        change(wrong.security.tls.as_mut().unwrap());
        let error = run(wrong).await.map(drop).unwrap_err();
        assert!(matches!(error, StartError::Tls { .. }), "{error:?}");
        promptfield_core::chain::chain(&error)
    };
    let certificate = good.security.tls.clone().unwrap().certificate;
    assert!(refusal(&|tls| tls.certificate = "nowhere.pem".into()).await.contains("nowhere.pem"));
    assert!(refusal(&|tls| tls.key = certificate.clone()).await.contains("a private key"));
    assert!(refusal(&|tls| tls.certificate = tls.key.clone()).await.contains("no certificate"));
}

//! The address by which a coordinator is called.

use std::net::IpAddr;

use promptfield_core::input::InvalidInput;
use reqwest::Url;

/// Checks the address of a coordinator, and gives it as it's used: without a slash at its end. `field` is where it was named.
pub fn coordinator_address(field: &str, given: &str) -> Result<String, InvalidInput> {
    let refused = |expected: String| InvalidInput::new(field, given, expected);
    let Some(url) = parsed(given) else {
        let with_scheme = format!("http://{}", given.trim());
        return Err(refused(match parsed(&with_scheme) {
            Some(_) if !given.contains("://") => format!("an address with its scheme, such as `{with_scheme}`"),
            _ => "an address such as `http://127.0.0.1:7878`".to_owned(),
        }));
    };
    if url.query().is_some() || url.fragment().is_some() || !url.username().is_empty() || url.password().is_some() {
        let plain = url.origin().ascii_serialization();
        return Err(refused(format!("an address without what pages and people add to it, such as `{plain}`")));
    }
    if is_everywhere(&url) {
        let at = |host: &str| {
            let mut url = url.clone();
            // A host's name always is one.
            let _ = url.set_host(Some(host));
            url.as_str().trim_end_matches('/').to_owned()
        };
        let (here, elsewhere) = (at("127.0.0.1"), at(&host_name()));
        return Err(refused(format!(
            "an address to call, and this one says only where to listen: `{elsewhere}`, if this is the coordinator's machine and \
             others know it by this name, or `{here}` for this machine alone"
        )));
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

/// This host's name for others.
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

fn parsed(text: &str) -> Option<Url> {
    Url::parse(text.trim()).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}

/// Whether it stands for all addresses of a machine.
fn is_everywhere(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host.parse().is_ok_and(|address: IpAddr| address.to_canonical().is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_can_be_called_or_are_refused_with_the_right_one() {
        for (given, used) in [
            ("http://head:7878/", "http://head:7878"),
            (" https://head.example/pf/ ", "https://head.example/pf"),
            ("http://[::1]:7878", "http://[::1]:7878"),
            ("HTTP://127.0.0.1:7878", "http://127.0.0.1:7878"),
        ] {
            assert_eq!(coordinator_address("url", given).as_deref(), Ok(used));
        }
        let host = host_name().to_lowercase();
        for (given, right) in [
            ("localhost:7878", "`http://localhost:7878`"),
            ("127.0.0.1:7878", "`http://127.0.0.1:7878`"),
            ("head", "`http://head`"),
            ("", "`http://127.0.0.1:7878`"),
            ("ftp://head:1", "`http://127.0.0.1:7878`"),
            ("http://head:7878/#/experiments/1", "`http://head:7878`"),
            ("http://me@head:7878", "`http://head:7878`"),
            ("http://0.0.0.0:7878", "`http://127.0.0.1:7878`"),
            ("http://0.0.0.0:7878", &format!("`http://{host}:7878`")),
            ("http://0:7878", "`http://127.0.0.1:7878`"),
            ("https://[::]:7878/pf", "`https://127.0.0.1:7878/pf`"),
            ("http://[::ffff:0.0.0.0]", "`http://127.0.0.1`"),
        ] {
            let error = coordinator_address("coordinator.url", given).unwrap_err().to_string();
            assert!(error.starts_with(&format!("`coordinator.url`: `{given}` is not valid")), "{error}");
            assert!(error.contains(right), "{given}: {error}");
        }
    }
}

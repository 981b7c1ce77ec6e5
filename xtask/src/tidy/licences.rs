//! Every dependency's licence must be one that this project may be distributed with.

use crate::workspace::Package;

/// SPDX identifiers of permissive licences, and of weaker copyleft that binds only its own files.
const ALLOWED: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "IJG",
    "ISC",
    "MIT",
    "MIT-0",
    "MPL-2.0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Packages whose licence isn't on the list.
pub(super) fn offences(packages: &[Package]) -> Vec<String> {
    packages
        .iter()
        .filter_map(|package| {
            let licence = package.license.as_deref().unwrap_or("none given");
            (!allows(licence, ALLOWED)).then(|| {
                format!(
                    "{} {} has the licence `{licence}`: take another crate, or add it to the list in \
                     xtask/src/tidy/licences.rs if this project may be distributed with it",
                    package.name, package.version
                )
            })
        })
        .collect()
}

/// Whether an SPDX expression can be met with the allowed licences. `/` is the older way to write OR.
fn allows(expression: &str, allowed: &[&str]) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut tokens = spaced.split_whitespace().peekable();
    let met = either(&mut tokens, allowed);
    met == Some(true) && tokens.next().is_none()
}

type Tokens<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn either(tokens: &mut Tokens, allowed: &[&str]) -> Option<bool> {
    let mut met = both(tokens, allowed)?;
    while tokens.next_if_eq(&"OR").is_some() {
        met |= both(tokens, allowed)?;
    }
    Some(met)
}

fn both(tokens: &mut Tokens, allowed: &[&str]) -> Option<bool> {
    let mut met = one(tokens, allowed)?;
    while tokens.next_if_eq(&"AND").is_some() {
        met &= one(tokens, allowed)?;
    }
    Some(met)
}

fn one(tokens: &mut Tokens, allowed: &[&str]) -> Option<bool> {
    let first = tokens.next()?;
    if first == "(" {
        let met = either(tokens, allowed)?;
        return tokens.next_if_eq(&")").map(|_| met);
    }
    if tokens.next_if_eq(&"WITH").is_some() {
        let exception = tokens.next()?;
        return Some(allowed.contains(&first) || allowed.contains(&format!("{first} WITH {exception}").as_str()));
    }
    Some(allowed.contains(&first))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_met_by_their_operators() {
        let allowed = ["MIT", "ISC", "Apache-2.0 WITH LLVM-exception"];
        for met in [
            "MIT",
            "GPL-3.0 OR MIT",
            "MIT/Apache-2.0",
            "MIT AND ISC",
            "(MIT OR Apache-2.0) AND ISC",
            "GPL-3.0 OR MIT AND ISC",
            "Apache-2.0 WITH LLVM-exception",
            "MIT WITH any-exception",
        ] {
            assert!(allows(met, &allowed), "{met}");
        }
        for unmet in [
            "",
            "GPL-3.0",
            "MIT AND GPL-3.0",
            "(MIT OR ISC) AND GPL-3.0",
            "Apache-2.0",
            "(MIT",
            "MIT ISC",
            "none given",
        ] {
            assert!(!allows(unmet, &allowed), "{unmet}");
        }
    }
}

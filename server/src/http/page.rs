//! Lists in pages.
//!
//! A cursor is a position in the whole list, whatever is filtered: lists here only grow at their end, so that a page stays
//! where it is while jobs change their states. Clients take it as it comes; its first letter is its version.

use promptfield_core::input::InvalidInput;
use promptfield_core::wire::api::Page;
use serde::Deserialize;

const DEFAULT_LIMIT: u32 = 100;
const MOST_LIMIT: u32 = 1000;
const VERSION: char = 'a';

/// Which part of a list is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    first: usize,
    limit: usize,
}

/// The same as it stands in a query.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct WindowParams {
    /// The `next` of an earlier page.
    pub(super) cursor: Option<String>,
    /// The most entries of a page.
    #[param(value_type = Option<usize>, minimum = 1, maximum = 1000, default = 100)]
    pub(super) limit: Option<String>,
}

impl WindowParams {
    pub(super) fn window(&self) -> Result<Window, InvalidInput> {
        let first = self.cursor.as_deref().map_or(Ok(0), position)?;
        Ok(Window { first, limit: limit(self.limit.as_deref())? as usize })
    }
}

/// The most entries of a page, as it stands in a query.
pub(super) fn limit(text: Option<&str>) -> Result<u32, InvalidInput> {
    let Some(text) = text else { return Ok(DEFAULT_LIMIT) };
    let limit = text.parse().ok().filter(|limit| (1..=MOST_LIMIT).contains(limit));
    limit.ok_or_else(|| InvalidInput::new("limit", text, format!("a whole number from 1 to {MOST_LIMIT}")))
}

fn position(cursor: &str) -> Result<usize, InvalidInput> {
    cursor
        .strip_prefix(VERSION)
        .and_then(|digits| digits.parse().ok())
        .ok_or_else(|| InvalidInput::new("cursor", cursor, "the `next` of an earlier page"))
}

impl Window {
    /// Cuts the window out of `list`, of which only `wanted` entries count.
    pub(super) fn cut<T, U>(
        self,
        list: impl IntoIterator<Item = T>,
        mut wanted: impl FnMut(&T) -> bool,
        show: impl Fn(T) -> U,
    ) -> Page<U> {
        let mut page = Page { items: Vec::new(), total: 0, next: None };
        for (position, entry) in list.into_iter().enumerate() {
            if !wanted(&entry) {
                continue;
            }
            page.total += 1;
            if position < self.first {
                continue;
            }
            if page.items.len() < self.limit {
                page.items.push(show(entry));
            } else if page.next.is_none() {
                page.next = Some(format!("{VERSION}{position}"));
            }
        }
        page
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(cursor: Option<&str>, limit: &str) -> Result<Window, InvalidInput> {
        WindowParams { cursor: cursor.map(str::to_owned), limit: Some(limit.to_owned()) }.window()
    }

    #[test]
    fn pages_follow_each_other_without_gap_or_overlap() {
        let (mut cursor, mut seen) = (None, Vec::new());
        loop {
            let page = window(cursor.as_deref(), "2").unwrap().cut(0..10, |n| n % 2 == 1, |n| n);
            assert_eq!(page.total, 5);
            seen.extend(page.items);
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(seen, [1, 3, 5, 7, 9]);
    }

    #[test]
    fn foreign_cursors_and_limits_are_refused() {
        assert_eq!(window(Some("17"), "1").unwrap_err().errors[0].field, "cursor");
        for limit in ["0", "1001", "x", "-1"] {
            assert_eq!(window(None, limit).unwrap_err().errors[0].field, "limit");
        }
    }
}

//! Which part of a long list is meant?

pub const LIMIT_DEFAULT: u32 = 50;
pub const LIMIT_MAX: u32 = 500;

/// What follows `after`, at most so much of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Window {
    pub after: Option<String>,
    pub limit: Option<u32>,
}

impl Window {
    fn limit(&self) -> u32 {
        self.limit.unwrap_or(LIMIT_DEFAULT).clamp(1, LIMIT_MAX)
    }

    /// One more than is shown, to know whether there is more.
    pub(crate) fn fetch(&self) -> i64 {
        i64::from(self.limit()) + 1
    }

    /// For lists in the order of text ids.
    pub(crate) fn after_text(&self) -> String {
        self.after.clone().unwrap_or_default()
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// For `after` of the next call; none when there is no more.
    pub next: Option<String>,
}

impl<T> Page<T> {
    pub(crate) fn of(mut items: Vec<T>, window: &Window, place: impl Fn(&T) -> String) -> Page<T> {
        let limit = window.limit() as usize;
        let more = items.len() > limit;
        items.truncate(limit);
        let next = if more { items.last().map(place) } else { None };
        Page { items, next }
    }
}

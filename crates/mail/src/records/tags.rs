//! What do the tags of a list say? `v=DKIM1; k=rsa; p=…`, for DKIM keys (RFC 6376 3.2) and DMARC (RFC 7489 6.4).

/// In their order.
pub(super) struct Tags<'a>(Vec<(&'a str, &'a str)>);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TagsError {
    #[error("{} is no tag of the form name=value", super::quoted(.0))]
    NotATag(String),
    #[error("the tag {}= is there twice", super::shortened(.0))]
    Twice(String),
}

const TAGS_MAX: usize = 64;

impl<'a> Tags<'a> {
    pub(super) fn parse(text: &'a str) -> Result<Tags<'a>, TagsError> {
        let mut tags: Vec<(&str, &str)> = Vec::new();
        let parts = text.split(';').map(str::trim).filter(|part| !part.is_empty());
        for part in parts.take(TAGS_MAX) {
            let (name, value) = part.split_once('=').ok_or_else(|| TagsError::NotATag(part.to_owned()))?;
            let name = name.trim();
            let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic())
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
            if !is_name {
                return Err(TagsError::NotATag(part.to_owned()));
            }
            if tags.iter().any(|(before, _)| *before == name) {
                return Err(TagsError::Twice(name.to_owned()));
            }
            tags.push((name, value.trim()));
        }
        Ok(Tags(tags))
    }

    pub(super) fn get(&self, name: &str) -> Option<&'a str> {
        self.0.iter().find(|(found, _)| *found == name).map(|(_, value)| *value)
    }

    pub(super) fn first(&self) -> Option<(&'a str, &'a str)> {
        self.0.first().copied()
    }
}

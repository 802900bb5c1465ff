//! The order of a list of links, and the cursor that a page ends with.

use rpc::LinkId;

use super::{Link, Violation};

/// What a list is ordered by; the link's id breaks ties.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OrderField {
    CreateTime,
    UpdateTime,
    Slug,
}

/// The order of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    pub field: OrderField,
    pub descending: bool,
}

impl Order {
    /// Reads an `order_by`; empty means the newest first.
    pub(crate) fn parse(text: &str) -> Result<Self, Violation> {
        let mut words = text.split(' ').filter(|word| !word.is_empty());
        let field = match words.next() {
            None => return Ok(Self { field: OrderField::CreateTime, descending: true }),
            Some("create_time") => OrderField::CreateTime,
            Some("update_time") => OrderField::UpdateTime,
            Some("slug") => OrderField::Slug,
            Some(_) => return Err(refused()),
        };
        match (words.next(), words.next()) {
            (None, _) => Ok(Self { field, descending: false }),
            (Some("desc"), None) => Ok(Self { field, descending: true }),
            _ => Err(refused()),
        }
    }
}

fn refused() -> Violation {
    Violation::new(
        "order_by",
        "must be `create_time`, `update_time` or `slug`, with ` desc` or without",
    )
}

/// Where a page ended: the next one goes on behind it, whatever was added or deleted meanwhile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub key: CursorKey,
    pub id: LinkId,
}

/// The value that the list is ordered by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CursorKey {
    /// Microseconds since 1970.
    Time(i64),
    Slug(String),
}

impl Cursor {
    /// The cursor behind this link.
    pub(crate) fn behind(link: &Link, order: Order) -> Self {
        let key = match order.field {
            OrderField::CreateTime => CursorKey::Time(link.create_time.as_microsecond()),
            OrderField::UpdateTime => CursorKey::Time(link.update_time.as_microsecond()),
            OrderField::Slug => CursorKey::Slug(link.slug.as_str().to_owned()),
        };
        Self { key, id: link.id }
    }

    /// The bytes for a page token.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = self.id.as_bytes().to_vec();
        match &self.key {
            CursorKey::Time(micros) => bytes.extend_from_slice(&micros.to_be_bytes()),
            CursorKey::Slug(slug) => bytes.extend_from_slice(slug.as_bytes()),
        }
        bytes
    }

    /// Reads what [`encode`](Self::encode) made for a list of the same order; `None` for anything else.
    pub(crate) fn decode(bytes: &[u8], order: Order) -> Option<Self> {
        let (id, key) = bytes.split_at_checked(16)?;
        let key = match order.field {
            OrderField::CreateTime | OrderField::UpdateTime => {
                CursorKey::Time(i64::from_be_bytes(key.try_into().ok()?))
            }
            OrderField::Slug => {
                let slug = String::from_utf8(key.to_vec()).ok()?;
                // A forged one; the store takes no NUL.
                CursorKey::Slug(Some(slug).filter(|slug| !slug.contains('\0'))?)
            }
        };
        Some(Self { key, id: LinkId::from_slice(id).ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    #[test]
    fn orders_are_read_and_anything_else_is_refused() {
        let newest = Order { field: OrderField::CreateTime, descending: true };
        assert_eq!(Order::parse(""), Ok(newest));
        assert_eq!(Order::parse(" create_time  desc "), Ok(newest));
        assert_eq!(Order::parse("slug"), Ok(Order { field: OrderField::Slug, descending: false }));
        for text in
            ["id", "slug asc", "slug,create_time", "slug desc desc", "SLUG", "slug;", "slug\tdesc"]
        {
            assert_eq!(Order::parse(text).expect_err(text).field, "order_by");
        }
    }

    #[test]
    fn a_forged_cursor_with_a_nul_is_none() {
        let by_slug = Order { field: OrderField::Slug, descending: false };
        let forged = Cursor { key: CursorKey::Slug("a\0".to_owned()), id: LinkId::new() };
        assert_eq!(Cursor::decode(&forged.encode(), by_slug), None);
    }

    proptest! {
        #[test]
        fn a_cursor_reads_back_and_any_bytes_are_one_or_none(
            micros in any::<i64>(),
            slug in "[a-zA-Z0-9_-]{1,64}",
            bytes in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let by_time = Order { field: OrderField::UpdateTime, descending: false };
            let by_slug = Order { field: OrderField::Slug, descending: true };
            for (order, key) in [(by_time, CursorKey::Time(micros)), (by_slug, CursorKey::Slug(slug))] {
                let cursor = Cursor { key, id: LinkId::new() };
                prop_assert_eq!(Cursor::decode(&cursor.encode(), order), Some(cursor));
                drop(Cursor::decode(&bytes, order));
            }
        }
    }
}

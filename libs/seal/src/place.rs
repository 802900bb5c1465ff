//! Where a sealed value lies: what it is bound to.

/// A field of a row. A value that was sealed for one place opens at no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place<'a> {
    /// With its schema, as `identity.users`.
    pub table: &'a str,
    /// The column.
    pub column: &'a str,
    /// The row's id, in bytes that never change.
    pub row: &'a [u8],
}

impl Place<'_> {
    /// The associated data: the envelope's head, then each part after its length, so that no two places read the same.
    pub(crate) fn bound_to(&self, head: &[u8]) -> Vec<u8> {
        let parts = [self.table.as_bytes(), self.column.as_bytes(), self.row];
        let mut bytes = head.to_vec();
        for part in parts {
            bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
            bytes.extend_from_slice(part);
        }
        bytes
    }
}

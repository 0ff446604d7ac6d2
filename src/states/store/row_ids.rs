//! Who each row is: the columns beside the activations.

/// Who each row is. All four have the same length.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RowIds {
    /// Number of the row in the export, from 0.
    pub row_id: Vec<u64>,
    /// Document, numbered in reading order from 0 across all inputs.
    pub doc_id: Vec<u64>,
    /// Token position in the document.
    pub pos: Vec<u32>,
    /// Token.
    pub token_id: Vec<u32>,
}

impl RowIds {
    /// Number of rows.
    pub fn len(&self) -> usize {
        self.row_id.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.row_id.is_empty()
    }

    /// Adds a row.
    pub fn push(&mut self, row_id: u64, doc_id: u64, pos: u32, token_id: u32) {
        self.row_id.push(row_id);
        self.doc_id.push(doc_id);
        self.pos.push(pos);
        self.token_id.push(token_id);
    }

    /// Forgets all rows; keeps the memory.
    pub(super) fn clear(&mut self) {
        self.row_id.clear();
        self.doc_id.clear();
        self.pos.clear();
        self.token_id.clear();
    }
}

use bytes::Bytes;

/// The chunks read so far. The first is held in place, because the body of a unary call is one
/// chunk and should cost no allocation for a list.
#[derive(Default)]
pub(super) struct Kept {
    first: Bytes,
    rest: Vec<Bytes>,
    /// How many there are; those already taken count.
    pub(super) count: usize,
    /// The bytes held, all of them reserved from the pool.
    pub(super) bytes: usize,
}

impl Kept {
    pub(super) fn push(&mut self, chunk: Bytes) {
        self.bytes += chunk.len();
        if self.count == 0 {
            self.first = chunk;
        } else {
            self.rest.push(chunk);
        }
        self.count += 1;
    }

    /// The chunk at `index`, which is below [`count`](Self::count).
    pub(super) fn slot(&mut self, index: usize) -> &mut Bytes {
        match index.checked_sub(1) {
            None => &mut self.first,
            Some(index) => &mut self.rest[index],
        }
    }
}

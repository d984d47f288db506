//! A deterministic mutator: the same seeds and number give the same bytes on every machine.

/// Texts that files of every kind hold: put in whole, they reach further than single bytes.
const WORDS: &[&[u8]] = &[
    b"Conv",
    b"Quant",
    b"Pad",
    b"Reshape",
    b"Transpose",
    b"Gemm",
    b"Concat",
    b"MultiThreshold",
    b"BipolarQuant",
    b"conv(",
    b"quant(",
    b"pads=[",
    b"f32[N, 3]",
    b"@w: f32[8, 3, 3, 3]",
    b"shape=[",
    b"scale 1/3",
    b"u2<0..3",
    b"dtype",
    b"\"F32\"",
    b"data_offsets",
    b"-1",
    b"1e38",
    b"nan",
    b"9223372036854775807",
    b"(",
    b")",
    b"{",
    b"}",
    b"[",
    b"]",
];

/// Draws mutations of seeds.
pub struct Mutator {
    state: u64,
    seeds: Vec<Vec<u8>>,
}

impl Mutator {
    /// A mutator of these seeds.
    pub fn new(seeds: Vec<Vec<u8>>) -> Mutator {
        Mutator { state: 0x9e37_79b9_7f4a_7c15, seeds }
    }

    fn draw(&mut self, below: usize) -> usize {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state >> 11) as usize % below.max(1)
    }

    /// The next mutation: a seed with one to eight changes.
    pub fn mutation(&mut self) -> Vec<u8> {
        let seed = self.draw(self.seeds.len());
        let mut bytes = self.seeds.get(seed).cloned().unwrap_or_default();
        for _ in 0..1 + self.draw(8) {
            self.change(&mut bytes);
        }
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>) {
        let at = self.draw(bytes.len());
        let span = (1 + self.draw(16)).min(bytes.len() - at);
        match self.draw(8) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << self.draw(8),
            1 if !bytes.is_empty() => bytes[at] = [0, 1, 0x7f, 0x80, 0xff, b'0', b'9'][self.draw(7)],
            2 => drop(bytes.drain(at..at + span)),
            3 => {
                let copy = bytes[at..at + span].to_vec();
                let to = self.draw(bytes.len());
                bytes.splice(to..to, copy);
            }
            4 => {
                let word = WORDS[self.draw(WORDS.len())];
                bytes.splice(at..at, word.iter().copied());
            }
            5 => {
                let other = self.draw(self.seeds.len());
                let other = self.seeds.get(other).cloned().unwrap_or_default();
                let from = self.draw(other.len());
                let part = other[from..(from + 4 * span).min(other.len())].to_vec();
                let end = (at + part.len()).min(bytes.len());
                bytes.splice(at..end, part);
            }
            6 => bytes.truncate(at.max(1)),
            _ => {
                let value = self.draw(256) as u8;
                bytes.insert(at, value);
            }
        }
    }
}

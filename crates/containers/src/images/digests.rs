//! SHA-256 digests, taken while bytes pass by.

use std::io::{self, Read};

use ring::digest::{Context, SHA256};

/// `sha256:` and hexadecimal digits.
pub(crate) fn of(bytes: &[u8]) -> String {
    text(ring::digest::digest(&SHA256, bytes).as_ref())
}

fn text(digest: &[u8]) -> String {
    use std::fmt::Write;
    digest.iter().fold("sha256:".to_owned(), |mut text, byte| {
        _ = write!(text, "{byte:02x}");
        text
    })
}

/// The name of a layer together with all below it (OCI image specification, "Layer ChainID").
pub(crate) fn chain(below: Option<&str>, layer: &str) -> String {
    below.map_or_else(|| layer.to_owned(), |below| of(format!("{below} {layer}").as_bytes()))
}

/// A reader that digests what is read through it.
pub(crate) struct Digesting<R> {
    inner: R,
    context: Context,
}

impl<R: Read> Digesting<R> {
    pub(crate) fn new(inner: R) -> Self {
        Self { inner, context: Context::new(&SHA256) }
    }

    /// Reads to the end, for what follows the part of interest counts too, and tells the digest.
    pub(crate) fn finish(mut self) -> io::Result<(String, R)> {
        io::copy(&mut self, &mut io::sink())?;
        Ok((text(self.context.finish().as_ref()), self.inner))
    }
}

impl<R: Read> Read for Digesting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.context.update(&buffer[..length]);
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_sha256_of_everything() {
        assert_eq!(of(b""), "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        let mut reader = Digesting::new(&b"hello"[..]);
        reader.read_exact(&mut [0; 2]).unwrap();
        assert_eq!(reader.finish().unwrap().0, of(b"hello"));
        assert_eq!(chain(None, "sha256:a"), "sha256:a");
        assert_eq!(chain(Some("sha256:a"), "sha256:b"), of(b"sha256:a sha256:b"));
    }
}

//! Header blocks: name and value pairs, compressed by one zlib stream that lives as long as its direction of the
//! connection (SPDY/3.1 section 2.6.10).

use bytes::{Buf as _, BufMut as _};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::frames::SpdyError;

/// Names are in lower case; a name may have several values.
pub type Headers = Vec<(String, String)>;

/// A block that says more than this is meant to exhaust memory: streams of Kubernetes have three short headers.
const MOST_BYTES: usize = 64 << 10;
/// Several values of one name stand in one string.
const SEPARATOR: char = '\0';

/// The words of the dictionary that stand behind their length.
const WORDS: [&str; 65] = [
    "options",
    "head",
    "post",
    "put",
    "delete",
    "trace",
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "accept-ranges",
    "age",
    "allow",
    "authorization",
    "cache-control",
    "connection",
    "content-base",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-md5",
    "content-range",
    "content-type",
    "date",
    "etag",
    "expect",
    "expires",
    "from",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "last-modified",
    "location",
    "max-forwards",
    "pragma",
    "proxy-authenticate",
    "proxy-authorization",
    "range",
    "referer",
    "retry-after",
    "server",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "vary",
    "via",
    "warning",
    "www-authenticate",
    "method",
    "get",
    "status",
    "200 OK",
    "version",
    "HTTP/1.1",
    "url",
    "public",
    "set-cookie",
    "keep-alive",
    "origin",
];
/// The rest of the dictionary.
const TAIL: &str = concat!(
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505",
    "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized",
    "403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable",
    "Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT",
    "chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,",
    "text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.",
);

fn dictionary() -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1423);
    for word in WORDS {
        put_text(&mut bytes, word);
    }
    bytes.put_slice(TAIL.as_bytes());
    bytes
}

/// Reads the blocks of one direction, in their order.
pub(crate) struct Inflater {
    zlib: Decompress,
    dictionary: Vec<u8>,
}

impl Inflater {
    pub(crate) fn new() -> Self {
        Self { zlib: Decompress::new(true), dictionary: dictionary() }
    }

    pub(crate) fn read(&mut self, compressed: &[u8]) -> Result<Headers, SpdyError> {
        parse(&self.inflate(compressed)?)
    }

    fn inflate(&mut self, mut compressed: &[u8]) -> Result<Vec<u8>, SpdyError> {
        let mut plain = Vec::with_capacity(1024);
        loop {
            let before = (self.zlib.total_in(), self.zlib.total_out());
            let step = self.zlib.decompress_vec(compressed, &mut plain, FlushDecompress::Sync);
            let read = usize::try_from(self.zlib.total_in() - before.0).unwrap_or(compressed.len());
            compressed = &compressed[read..];
            match step {
                Ok(Status::Ok) if self.zlib.total_out() > before.1 || read > 0 => {}
                // No progress: everything is read and written.
                Ok(_) if compressed.is_empty() => return Ok(plain),
                Ok(_) => return Err(SpdyError::Headers("the compressed block is broken")),
                Err(why) if why.needs_dictionary().is_some() => {
                    self.zlib
                        .set_dictionary(&self.dictionary)
                        .map_err(|_| SpdyError::Headers("another dictionary is needed"))?;
                }
                Err(_) => return Err(SpdyError::Headers("the compressed block is broken")),
            }
            if plain.len() > MOST_BYTES {
                return Err(SpdyError::Headers("the block is too large"));
            }
            plain.reserve(1024);
        }
    }
}

/// Writes the blocks of one direction, in their order.
pub(crate) struct Deflater {
    zlib: Compress,
}

impl Deflater {
    pub(crate) fn new() -> Self {
        let mut zlib = Compress::new(Compression::fast(), true);
        zlib.set_dictionary(&dictionary()).expect("a fresh compressor takes a dictionary");
        Self { zlib }
    }

    pub(crate) fn write(&mut self, headers: &Headers) -> Result<Vec<u8>, SpdyError> {
        let mut plain = Vec::new();
        plain.put_u32(headers.len() as u32);
        for (name, value) in headers {
            put_text(&mut plain, name);
            put_text(&mut plain, value);
        }
        let mut compressed = Vec::with_capacity(plain.len() + 64);
        let end = self.zlib.total_in() + plain.len() as u64;
        loop {
            let from = plain.len() - usize::try_from(end - self.zlib.total_in()).unwrap_or(plain.len());
            self.zlib
                .compress_vec(&plain[from..], &mut compressed, FlushCompress::Sync)
                .map_err(|_| SpdyError::Headers("the block cannot be compressed"))?;
            // Room that is left says that the flush is complete.
            if compressed.len() < compressed.capacity() {
                return Ok(compressed);
            }
            compressed.reserve(256);
        }
    }
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.put_u32(text.len() as u32);
    bytes.put_slice(text.as_bytes());
}

fn parse(mut plain: &[u8]) -> Result<Headers, SpdyError> {
    let number = |plain: &mut &[u8]| plain.try_get_u32().map_err(|_| SpdyError::Headers("the block ends early"));
    let text = |plain: &mut &[u8]| {
        let length = number(plain)? as usize;
        let (text, rest) = plain.split_at_checked(length).ok_or(SpdyError::Headers("the block ends early"))?;
        *plain = rest;
        String::from_utf8(text.to_vec()).map_err(|_| SpdyError::Headers("a header is not UTF-8"))
    };
    let mut headers = Vec::new();
    for _ in 0..number(&mut plain)? {
        let (name, values) = (text(&mut plain)?, text(&mut plain)?);
        headers.extend(values.split(SEPARATOR).map(|value| (name.clone(), value.to_owned())));
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dictionary_is_spdys() {
        let bytes = dictionary();
        assert_eq!(bytes.len(), 1423);
        // A zlib stream that was made with it names it by this checksum (RFC 1950).
        let (mut low, mut high) = (1u32, 0u32);
        for byte in bytes {
            low = (low + u32::from(byte)) % 65_521;
            high = (high + low) % 65_521;
        }
        assert_eq!(high << 16 | low, 0xe3c6_a7c2);
    }

    #[test]
    fn blocks_of_one_direction_build_on_each_other() {
        let (mut to, mut from) = (Deflater::new(), Inflater::new());
        let mut last = usize::MAX;
        for at in 0..200 {
            let headers: Headers = ["streamtype", "port", "requestid"]
                .map(|name| (name.to_owned(), format!("{name}-{}", "v".repeat(at % 5 * 97))))
                .into();
            let block = to.write(&headers).unwrap();
            assert_eq!(from.read(&block).unwrap(), headers);
            if at > 5 && at % 5 == 0 {
                assert!(block.len() <= last, "a block that was said before is short");
                last = block.len();
            }
        }
        let long: Headers =
            vec![("a".to_owned(), (0..9000).map(|it| char::from(b'a' + (it * it % 23) as u8)).collect())];
        assert_eq!(from.read(&to.write(&long).unwrap()).unwrap(), long);
    }

    #[test]
    fn broken_blocks_are_refused() {
        let refused = |block: &[u8]| Inflater::new().read(block).unwrap_err().to_string();
        assert!(refused(b"nonsense").contains("broken"));
        assert!(refused(b"").contains("ends early"));
        let bomb: Headers = vec![("a".to_owned(), "a".repeat(10 << 20))];
        assert!(refused(&Deflater::new().write(&bomb).unwrap()).contains("too large"));
        assert!(parse(&[0, 0, 0, 1, 0, 0, 0, 9, b'a']).is_err());
        assert!(parse(&[255, 255, 255, 255]).is_err());
    }
}

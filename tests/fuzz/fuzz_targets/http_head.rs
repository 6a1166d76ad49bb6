//! HTTP: responses of the gateway in pieces of any size.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pterodapter::wire::http::{Head, MAX_BODY, ResponseReader};

fuzz_target!(|data: &[u8]| {
    let Some((&size, data)) = data.split_first() else { return };
    if let Ok(Some((head, len))) = Head::parse(data) {
        assert!(len <= data.len());
        let _ = head.is_framed();
    }
    let whole = read([data].into_iter());
    let pieces = read(data.chunks(usize::from(size).max(1)));
    assert_eq!(whole, pieces, "the response depends on how it was cut");
});

/// The body of the response, `Err` for a fault, `None` where it goes on.
fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Result<Option<Vec<u8>>, ()> {
    let mut reader = ResponseReader::new();
    for piece in pieces {
        if let Some(response) = reader.handle_bytes(piece).map_err(|_| ())? {
            assert!(response.body.len() <= MAX_BODY);
            return Ok(Some(response.body.to_vec()));
        }
    }
    Ok(reader.handle_end().ok().map(|response| response.body.to_vec()))
}

//! Lists cut into messages, each of at least one item and far below the limit of a message (KEP-5825). Pure.

use futures::stream::{self, Stream};
use prost::Message;

/// Of a page, unless one item is larger.
const PAGE_BYTES: usize = 1 << 20;

/// The pages, each made when the one before it is sent. An empty list has none.
pub(super) fn of<T: Message + 'static>(items: Vec<T>) -> impl Stream<Item = Vec<T>> + Send {
    stream::iter(cut(items.into_iter()))
}

fn cut<T: Message>(items: impl Iterator<Item = T>) -> impl Iterator<Item = Vec<T>> {
    let mut items = items.peekable();
    std::iter::from_fn(move || {
        let mut page = vec![items.next()?];
        let mut bytes = page[0].encoded_len();
        while let Some(item) = items.next_if(|it| bytes + it.encoded_len() <= PAGE_BYTES) {
            bytes += item.encoded_len();
            page.push(item);
        }
        Some(page)
    })
}

#[cfg(test)]
mod tests {
    use api::cri::Image;

    use super::*;

    #[test]
    fn every_item_is_on_one_page_and_no_page_is_empty() {
        let image = |bytes: usize| Image { id: "x".repeat(bytes), ..Image::default() };
        let check = |sizes: &[usize], expected: &[usize]| {
            let pages: Vec<usize> = cut(sizes.iter().map(|it| image(*it))).map(|page| page.len()).collect();
            assert_eq!(pages, expected, "{sizes:?}");
        };
        check(&[], &[]);
        check(&[1, 1, 1], &[3]);
        check(&[PAGE_BYTES, 1, 1], &[1, 2]);
        check(&[1, 2 * PAGE_BYTES, 1], &[1, 1, 1]);
        check(&[PAGE_BYTES / 2; 5], &[1, 1, 1, 1, 1]);
        check(&[PAGE_BYTES / 4; 5], &[3, 2]);
    }
}

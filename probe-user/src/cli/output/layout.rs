//! Which columns fit a width, and how a cell is cut: pure.

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use super::columns::{Column, Shape};

/// Spaces between columns.
pub(super) const GAP: usize = 2;

/// The least that is left of an address: an IPv4 address and a port.
const ADDRESS: usize = 21;
/// The least that is left of a path.
const PATH: usize = 12;
/// The longest address and port: `[8 groups of 4]:5`.
const LONGEST: usize = 47;

/// Columns and their widths.
pub(super) type Layout = Vec<(Column, usize)>;

/// Chooses columns and widths for a screen: first columns of lesser rank go, then addresses and paths are cut; if even
/// that is too wide, the lines are.
pub(super) fn fit(columns: &[Column], natural: &[usize], screen: Option<usize>) -> Layout {
    let mut layout: Layout = columns.iter().copied().zip(natural.iter().copied()).collect();
    let Some(screen) = screen else { return layout };
    while total(&layout) > screen {
        let Some(worst) = layout.iter().map(|(column, _)| column.rank).max().filter(|rank| *rank > 0) else {
            break;
        };
        // Better an address cut than no address at all.
        if worst <= 3 && least(&layout) <= screen {
            break;
        }
        layout.retain(|(column, _)| column.rank != worst);
    }
    for shape in [Shape::Path, Shape::Address] {
        let surplus = total(&layout).saturating_sub(screen);
        shrink(&mut layout, shape, surplus);
    }
    layout
}

/// Gives what is left of the screen to addresses.
pub(super) fn grow(layout: &mut Layout, screen: Option<usize>) {
    let Some(screen) = screen else { return };
    let mut left = screen.saturating_sub(total(layout));
    for (_, width) in layout.iter_mut().rev().filter(|(column, _)| column.shape == Shape::Address) {
        let more = left.min(LONGEST.saturating_sub(*width));
        *width += more;
        left -= more;
    }
}

fn total(layout: &Layout) -> usize {
    layout.iter().map(|(_, width)| width + GAP).sum::<usize>().saturating_sub(GAP)
}

fn floor(column: &Column, width: usize) -> usize {
    match column.shape {
        Shape::Address => width.min(ADDRESS),
        Shape::Path => width.min(PATH),
        Shape::Number | Shape::Word => width,
    }
}

fn least(layout: &Layout) -> usize {
    let gaps = GAP * layout.len().saturating_sub(1);
    layout.iter().map(|(column, width)| floor(column, *width)).sum::<usize>() + gaps
}

/// Takes the surplus from the widest column of that shape, character by character.
fn shrink(layout: &mut Layout, shape: Shape, surplus: usize) {
    for _ in 0..surplus {
        let candidates = layout.iter_mut().filter(|(c, width)| c.shape == shape && *width > floor(c, *width));
        match candidates.max_by_key(|(_, width)| *width) {
            Some((_, width)) => *width -= 1,
            None => return,
        }
    }
}

/// The cell in at most `width`, cut as its shape allows and marked with `…` where it is.
pub(super) fn cut(cell: &str, shape: Shape, width: usize) -> String {
    if cell.width() <= width || width == 0 {
        return cell.to_owned();
    }
    match shape {
        Shape::Number | Shape::Word => cell.to_owned(),
        Shape::Path => format!("…{}", last(cell, width - 1)),
        Shape::Address => {
            let port =
                cell.rfind("]:").or_else(|| cell.rfind(':').filter(|_| cell.matches(':').count() == 1));
            let tail = port.map_or("", |at| &cell[at..]);
            if tail.len() + 1 > width {
                return format!("…{}", last(cell, width - 1));
            }
            let head: String = cell.chars().take(width - 1 - tail.len()).collect();
            format!("{head}…{tail}")
        }
    }
}

/// The longest end of `text` that is at most `width` wide.
fn last(text: &str, width: usize) -> &str {
    let mut used = 0;
    for (at, c) in text.char_indices().rev() {
        used += c.width().unwrap_or(0);
        if used > width {
            return &text[at + c.len_utf8()..];
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Page, columns},
        *,
    };

    fn names(layout: &Layout) -> Vec<&'static str> {
        layout.iter().map(|(column, _)| column.name).collect()
    }

    #[test]
    fn columns_go_by_rank_and_what_matters_stays() {
        let columns = columns::usual(Page::Live, false);
        let natural: Vec<usize> = columns.iter().map(|column| column.usual).collect();
        let mut before = columns.len();
        for screen in (20..200).rev() {
            let layout = fit(&columns, &natural, Some(screen));
            assert!(layout.len() <= before, "{screen}");
            before = layout.len();
            let kept = names(&layout);
            for name in ["remote", "rtt", "retrans", "loss"] {
                assert!(kept.contains(&name), "{screen}: {kept:?}");
            }
            if screen >= 46 {
                assert!(total(&layout) <= screen, "{screen}: {}", total(&layout));
            }
        }
        assert_eq!(fit(&columns, &natural, None).len(), columns.len());
    }

    #[test]
    fn long_addresses_are_cut_before_they_go() {
        let columns = columns::usual(Page::Live, false);
        let natural: Vec<usize> =
            columns.iter().map(|c| if c.shape == Shape::Address { 45 } else { c.usual }).collect();
        let layout = fit(&columns, &natural, Some(100));
        assert!(names(&layout).contains(&"local"), "{:?}", names(&layout));
        assert!(total(&layout) <= 100);
    }

    #[test]
    fn what_is_left_goes_to_addresses() {
        let columns = columns::usual(Page::Ended, false);
        let usual: Vec<usize> = columns.iter().map(|column| column.usual).collect();
        let mut layout = fit(&columns, &usual, Some(160));
        grow(&mut layout, Some(160));
        assert!(total(&layout) <= 160);
        assert!(layout.iter().any(|(column, width)| column.name == "remote" && *width > 21));
    }

    #[test]
    fn cuts_are_marked_and_keep_the_port() {
        let v6 = "[2001:db8:85a3:1234:5678:8a2e:370:7334]:51234";
        assert_eq!(cut(v6, Shape::Address, 21), "[2001:db8:85a…]:51234");
        assert_eq!(cut(v6, Shape::Address, 5), "…1234");
        assert_eq!(cut(v6, Shape::Address, 60), v6);
        assert_eq!(cut("2001:db8:85a3:1234::1", Shape::Address, 12), "2001:db8:85…");
        assert_eq!(cut("192.0.2.123:443", Shape::Address, 12), "192.0.2…:443");
        assert_eq!(cut("/system.slice/nginx.service", Shape::Path, 14), "…nginx.service");
        assert_eq!(cut("/日本語", Shape::Path, 5), "…本語");
        assert_eq!(cut("CLOSE-WAIT", Shape::Word, 3), "CLOSE-WAIT");
        for width in 0..60 {
            assert!(width == 0 || cut(v6, Shape::Address, width).width() <= width.max(1));
        }
    }
}

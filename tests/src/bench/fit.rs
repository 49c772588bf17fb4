//! How a cost grows: the straight line through measured points.

/// `slope · x + at_zero`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Line {
    pub(super) slope: f64,
    pub(super) at_zero: f64,
}

/// Least squares of relative errors: a point at 1,000 sockets counts as much as one at 400,000, whose scatter is larger.
/// `None` with fewer than two different x.
pub(super) fn line(points: &[(f64, f64)]) -> Option<Line> {
    let weighted = |value: fn(f64, f64) -> f64| -> f64 {
        points.iter().filter(|(_, y)| *y != 0.0).map(|(x, y)| value(*x, *y) / (y * y)).sum()
    };
    let (weight, x, y) = (weighted(|_, _| 1.0), weighted(|x, _| x), weighted(|_, y| y));
    let (xx, xy) = (weighted(|x, _| x * x), weighted(|x, y| x * y));
    let spread = weight * xx - x * x;
    let slope = (weight * xy - x * y) / spread;
    let line = Line { slope, at_zero: (y - slope * x) / weight };
    // Rounding leaves a little where all x are the same.
    (spread > weight * xx * 1e-12 && slope.is_finite()).then_some(line)
}

impl Line {
    /// How far the farthest point lies from the line, of the point.
    pub(super) fn off(self, points: &[(f64, f64)]) -> f64 {
        points.iter().map(|(x, y)| ((self.slope * x + self.at_zero) / y - 1.0).abs()).fold(0.0, f64::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_found_again() {
        let found = line(&[(1.0, 5.0), (10.0, 23.0), (100.0, 203.0)]).unwrap();
        assert!((found.slope - 2.0).abs() < 1e-9 && (found.at_zero - 3.0).abs() < 1e-9, "{found:?}");
        assert!((found.off(&[(1.0, 5.0), (10.0, 46.0)]) - 0.5).abs() < 1e-9);
        assert!(line(&[(1.0, 2.0)]).is_none());
        assert!(line(&[(3.0, 2.0), (3.0, 4.0)]).is_none());
        assert!(line(&[]).is_none());
    }
}

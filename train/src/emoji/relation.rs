//! Pixel boxes of objects, and the spatial relations between them that hard captions state.

/// A box on the pixel grid: left, top, width and height.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct PixelBox {
    pub x: usize,
    pub y: usize,
    pub width: usize,
    pub height: usize,
}

impl PixelBox {
    pub fn area(&self) -> usize {
        self.width * self.height
    }

    /// Pixels that both boxes hold.
    pub fn intersection(&self, other: &Self) -> usize {
        let overlap =
            |a: usize, a_len: usize, b: usize, b_len: usize| (a + a_len).min(b + b_len).saturating_sub(a.max(b));
        overlap(self.x, self.width, other.x, other.width) * overlap(self.y, self.height, other.y, other.height)
    }

    fn centre(&self) -> [f32; 2] {
        [self.x as f32 + self.width as f32 / 2.0, self.y as f32 + self.height as f32 / 2.0]
    }
}

/// Where an object is, seen from another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Relation {
    LeftOf,
    RightOf,
    Above,
    Below,
}

impl Relation {
    pub const ALL: [Self; 4] = [Self::LeftOf, Self::RightOf, Self::Above, Self::Below];

    /// The words between the two names.
    pub fn words(self) -> &'static str {
        match self {
            Self::LeftOf => "left of",
            Self::RightOf => "right of",
            Self::Above => "above",
            Self::Below => "below",
        }
    }

    pub fn opposite(self) -> Self {
        match self {
            Self::LeftOf => Self::RightOf,
            Self::RightOf => Self::LeftOf,
            Self::Above => Self::Below,
            Self::Below => Self::Above,
        }
    }

    /// Whether `a` is in this relation to `b`: their centres are at least `margin` pixels apart in its direction.
    pub fn holds(self, a: &PixelBox, b: &PixelBox, margin: f32) -> bool {
        let ([ax, ay], [bx, by]) = (a.centre(), b.centre());
        let ahead = match self {
            Self::LeftOf => bx - ax,
            Self::RightOf => ax - bx,
            Self::Above => by - ay,
            Self::Below => ay - by,
        };
        ahead >= margin
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relations_follow_the_image_axes() {
        let at = |x, y| PixelBox { x, y, width: 4, height: 2 };
        for (relation, a, b) in [
            (Relation::LeftOf, at(0, 9), at(5, 0)),
            (Relation::RightOf, at(5, 0), at(0, 9)),
            (Relation::Above, at(9, 0), at(0, 5)),
            (Relation::Below, at(0, 5), at(9, 0)),
        ] {
            assert!(relation.holds(&a, &b, 5.0) && !relation.holds(&a, &b, 5.5), "{relation:?}");
            assert!(relation.opposite().holds(&b, &a, 5.0) && !relation.holds(&b, &a, 0.0), "{relation:?}");
        }
    }

    #[test]
    fn intersections_count_pixels() {
        let a = PixelBox { x: 1, y: 1, width: 4, height: 3 };
        for (x, y, expected) in [(1, 1, 12), (4, 3, 1), (5, 1, 0), (0, 0, 6)] {
            assert_eq!(a.intersection(&PixelBox { x, y, width: 4, height: 3 }), expected);
        }
    }
}

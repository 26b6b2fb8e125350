//! The vocabulary: which emoji are drawn and what a caption calls them.

use twemoji_assets::png_twemoji_asset as emoji;

/// A kind of object: its name in captions and its picture.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    /// The adjective that tells kinds of one noun apart, for instance `red`.
    pub colour: Option<&'static str>,
    /// The singular noun, for instance `apple` or `alarm clock`.
    pub noun: &'static str,
    /// The picture: an encoded 72 x 72 RGBA PNG.
    pub png: &'static [u8],
}

impl Kind {
    /// The singular name, without an article.
    pub fn name(&self) -> String {
        self.with_colour(self.noun)
    }

    /// The plural name: every noun of the vocabulary has a regular plural.
    pub fn plural(&self) -> String {
        let ending = if self.noun.ends_with(['s', 'x', 'h']) { "es" } else { "s" };
        match self.noun.strip_suffix('y').filter(|stem| !stem.ends_with(['a', 'e', 'o'])) {
            Some(stem) => self.with_colour(&format!("{stem}ies")),
            None => self.with_colour(&format!("{}{ending}", self.noun)),
        }
    }

    fn with_colour(&self, noun: &str) -> String {
        match self.colour {
            Some(colour) => format!("{colour} {noun}"),
            None => noun.to_owned(),
        }
    }
}

/// The indefinite article of a name. The vocabulary has no noun, such as "unicorn", whose first letter misleads.
pub(super) fn article(name: &str) -> &'static str {
    if name.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" }
}

macro_rules! kinds {
    ($($emoji:tt $($colour:literal)? / $noun:literal),* $(,)?) => {
        &[$(Kind { colour: kinds!(@ $($colour)?), noun: $noun, png: emoji!($emoji).data.0 }),*]
    };
    (@) => { None };
    (@ $colour:literal) => { Some($colour) };
}

/// Kinds of the base preset: pictures that stay distinct at 13 pixels.
pub(super) const BASE: &[Kind] = kinds![
    "🐶" / "dog", "🐱" / "cat", "🐸" / "frog", "🐼" / "panda", "🐷" / "pig", "🐧" / "penguin", "🦉" / "owl",
    "🦋" / "butterfly", "🐞" / "ladybug", "🦀" / "crab", "🐙" / "octopus", "🐢" / "turtle", "🐌" / "snail",
    "🐘" / "elephant", "🍎" "red" / "apple", "🍌" / "banana", "🍓" / "strawberry", "🍍" / "pineapple",
    "🍉" / "watermelon", "🥕" / "carrot", "🍄" / "mushroom", "🍕" / "pizza", "🍔" / "hamburger", "🍩" / "donut",
    "🎂" / "cake", "🥑" / "avocado", "🚌" / "bus", "🚗" / "car", "🚲" / "bicycle", "✈" / "airplane",
    "🚀" / "rocket", "⛵" / "sailboat", "🚂" / "train", "🚜" / "tractor", "🚁" / "helicopter", "🎸" / "guitar",
    "🎺" / "trumpet", "🥁" / "drum", "☂" / "umbrella", "🔑" / "key", "⏰" / "alarm clock", "📷" / "camera",
    "🎈" / "balloon", "🎁" / "gift", "☎" / "telephone", "🎩" / "top hat", "⚽" / "soccer ball",
    "🏀" / "basketball", "🏠" / "house", "🏰" / "castle", "🌵" / "cactus", "🌻" / "sunflower",
];

/// Further kinds of the hard preset: shapes that differ by colour alone.
pub(super) const COLOURED: &[Kind] = kinds![
    "❤" "red" / "heart", "💛" "yellow" / "heart", "💚" "green" / "heart", "💙" "blue" / "heart",
    "💜" "purple" / "heart", "🔴" "red" / "circle", "🟡" "yellow" / "circle", "🟢" "green" / "circle",
    "🔵" "blue" / "circle", "🟣" "purple" / "circle", "🟥" "red" / "square", "🟨" "yellow" / "square",
    "🟩" "green" / "square", "🟦" "blue" / "square", "🟪" "purple" / "square", "📕" "red" / "book",
    "📗" "green" / "book", "📘" "blue" / "book", "📙" "orange" / "book", "🍏" "green" / "apple",
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_are_distinct_and_regular() {
        let all: Vec<Kind> = [BASE, COLOURED].concat();
        assert!(BASE.len() >= 48);
        assert_eq!(all.iter().map(Kind::name).collect::<HashSet<_>>().len(), all.len());
        for (name, plural, article_of) in [
            ("butterfly", "butterflies", "a"),
            ("key", "keys", "a"),
            ("octopus", "octopuses", "an"),
            ("red apple", "red apples", "a"),
            ("orange book", "orange books", "an"),
            ("top hat", "top hats", "a"),
        ] {
            let kind = all.iter().find(|kind| kind.name() == name).expect(name);
            assert_eq!((kind.plural().as_str(), article(name)), (plural, article_of));
        }
    }
}

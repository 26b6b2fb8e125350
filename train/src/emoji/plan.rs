//! What a scene shows and what its caption names, before any pixel or word.

use std::ops::{Range, RangeInclusive};

use rand::RngExt;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::relation::Relation;
use super::vocabulary::Vocabulary;

/// The most objects in a scene: more do not fit beside each other at the largest sides.
const MOST_OBJECTS: usize = 8;
/// How often a phrase of a hard caption names the kind before it in another colour.
const SIBLING_RATE: f64 = 0.3;
const COUNTED_RATE: f64 = 0.2;
const RELATED_RATE: f64 = 0.25;

/// What the scenes of a split have in common.
#[derive(Clone, Debug)]
pub(super) struct Recipe {
    /// Phrases in a caption.
    pub phrases: RangeInclusive<usize>,
    /// Further objects, which the caption does not name.
    pub unnamed: RangeInclusive<usize>,
    /// The part of the captions that name something absent.
    pub absent: f64,
    /// Longer sides of the objects, in parts of the image's side.
    pub sides: Range<f32>,
    /// Whether each scene is built around a held-out pair, rather than without any.
    pub around_held_out: bool,
    /// Whether captions count and relate objects, and siblings of what they name are in the scene.
    pub hard: bool,
}

/// A scene's objects, and the phrases of its caption in order.
#[derive(Debug)]
pub(super) struct Plan {
    /// The kind of each object, from back to front.
    pub objects: Vec<usize>,
    pub phrases: Vec<Phrase>,
}

/// A noun phrase of the caption, perhaps with a clause.
#[derive(Debug)]
pub(super) struct Phrase {
    /// The kind that it names.
    pub kind: usize,
    /// How many of them.
    pub count: usize,
    /// The objects that it means: empty if the kind is absent from the scene.
    pub objects: Vec<usize>,
    pub clause: Option<Clause>,
}

/// "left of the bus": what tells the phrase's object from another one of its kind.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clause {
    pub relation: Relation,
    /// The object that satisfies the relation.
    pub target: usize,
    /// The object of the same kind that satisfies its opposite.
    pub decoy: usize,
    /// The object that both are seen from; it is named too.
    pub anchor: usize,
}

impl Plan {
    /// Draws a plan.
    ///
    /// The scene and a caption of present things are drawn first. A caption with something absent is made from that by
    /// exchanging kinds in its words alone, for kinds drawn like the others. So the numbers of names and of objects,
    /// the forms of phrases and the frequencies of kinds are the same whether or not something is absent: only the
    /// picture tells.
    pub fn draw(rng: &mut ChaCha8Rng, vocabulary: &Vocabulary, recipe: &Recipe) -> Self {
        loop {
            let planner = Planner { rng, vocabulary, recipe, used: vec![], objects: vec![], phrases: vec![] };
            if let Some(plan) = planner.plan() {
                return plan;
            }
        }
    }
}

struct Planner<'a> {
    rng: &'a mut ChaCha8Rng,
    vocabulary: &'a Vocabulary,
    recipe: &'a Recipe,
    /// All kinds of the scene and of the caption.
    used: Vec<usize>,
    objects: Vec<usize>,
    phrases: Vec<Phrase>,
}

impl Planner<'_> {
    /// `None` if the draws so far leave no kind to go on with, or came to too many objects.
    fn plan(mut self) -> Option<Plan> {
        let phrases = self.rng.random_range(self.recipe.phrases.clone());
        let unnamed = self.rng.random_range(self.recipe.unnamed.clone());
        if self.recipe.around_held_out {
            let pairs: Vec<_> = self.vocabulary.held_out().collect();
            for kind in pairs[self.rng.random_range(0..pairs.len())] {
                self.used.push(kind);
                self.name(kind, 1);
            }
        }
        while self.phrases.len() < phrases {
            self.add_phrase()?;
        }
        for i in 0..unnamed {
            let sibling = if i == 0 && self.recipe.hard { self.sibling() } else { None };
            let kind = sibling.or_else(|| self.fresh(|_| true))?;
            self.add_object(kind);
        }
        if self.objects.len() > MOST_OBJECTS {
            return None;
        }
        self.phrases.shuffle(self.rng);
        if self.rng.random_bool(self.recipe.absent) {
            self.exchange()?;
        }
        Some(self.shuffle_objects())
    }

    fn add_phrase(&mut self) -> Option<()> {
        let hard = self.recipe.hard;
        let sibling = if hard && self.rng.random_bool(SIBLING_RATE) { self.sibling() } else { None };
        let kind = sibling.or_else(|| self.fresh(|_| true))?;
        let count = if hard && self.rng.random_bool(COUNTED_RATE) { self.rng.random_range(2..=3) } else { 1 };
        self.name(kind, count);

        let related = self.phrases.iter().any(|phrase| phrase.clause.is_some());
        if hard && count == 1 && !related && self.rng.random_bool(RELATED_RATE) {
            let anchor_kind = self.fresh(|_| true)?;
            let (decoy, anchor) = (self.add_object(kind), self.add_object(anchor_kind));
            let relation = Relation::ALL[self.rng.random_range(0..Relation::ALL.len())];
            let phrase = self.phrases.last_mut()?;
            phrase.clause = Some(Clause { relation, target: phrase.objects[0], decoy, anchor });
        }
        Some(())
    }

    /// Exchanges the kinds of some phrases, any number of them, for kinds that are not in the scene.
    fn exchange(&mut self) -> Option<()> {
        let mut order: Vec<usize> = (0..self.phrases.len()).collect();
        order.shuffle(self.rng);
        order.truncate(self.rng.random_range(1..=order.len()));
        for phrase in order {
            let vocabulary = self.vocabulary;
            let coloured = vocabulary.has_sibling(self.phrases[phrase].kind);
            self.phrases[phrase].kind = self.fresh(|kind| vocabulary.has_sibling(kind) == coloured)?;
            self.phrases[phrase].objects.clear();
        }
        Some(())
    }

    /// Draws a kind that satisfies `allowed` and may meet all others.
    fn fresh(&mut self, allowed: impl Fn(usize) -> bool) -> Option<usize> {
        let (vocabulary, recipe, used) = (self.vocabulary, self.recipe, &self.used);
        let meets = |kind| recipe.around_held_out || used.iter().all(|&other| !vocabulary.is_held_out(kind, other));
        let kind = vocabulary.draw(self.rng, |kind| !used.contains(&kind) && meets(kind) && allowed(kind))?;
        self.used.push(kind);
        Some(kind)
    }

    /// Draws a kind that differs from a named one by its colour alone.
    fn sibling(&mut self) -> Option<usize> {
        let vocabulary = self.vocabulary;
        let named: Vec<usize> = self.phrases.iter().map(|phrase| phrase.kind).collect();
        self.fresh(|kind| named.iter().any(|&other| vocabulary.are_siblings(kind, other)))
    }

    /// Adds a phrase that names `count` new objects of `kind`.
    fn name(&mut self, kind: usize, count: usize) {
        let objects = (0..count).map(|_| self.add_object(kind)).collect();
        self.phrases.push(Phrase { kind, count, objects, clause: None });
    }

    fn add_object(&mut self, kind: usize) -> usize {
        self.objects.push(kind);
        self.objects.len() - 1
    }

    /// Puts the objects in an order that does not tell which ones are named.
    fn shuffle_objects(mut self) -> Plan {
        let mut order: Vec<usize> = (0..self.objects.len()).collect();
        order.shuffle(self.rng);
        let mut place = vec![0; order.len()];
        for (new, &old) in order.iter().enumerate() {
            place[old] = new;
        }
        for phrase in &mut self.phrases {
            phrase.objects.iter_mut().for_each(|object| *object = place[*object]);
            if let Some(Clause { target, decoy, anchor, .. }) = &mut phrase.clause {
                [*target, *decoy, *anchor] = [place[*target], place[*decoy], place[*anchor]];
            }
        }
        Plan { objects: order.iter().map(|&old| self.objects[old]).collect(), phrases: self.phrases }
    }
}

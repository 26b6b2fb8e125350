//! From a plan to words, with the span of each name.

use super::kinds::article;
use super::plan::Plan;
use super::vocabulary::Vocabulary;

/// A half-open range of code points of the caption.
pub(super) type Span = [usize; 2];

/// A caption and what it names.
#[derive(Debug)]
pub(super) struct Caption {
    pub text: String,
    /// In the order of the text.
    pub mentions: Vec<Mention>,
}

/// A name in a caption.
#[derive(Debug)]
pub(super) struct Mention {
    /// The name without its article, a count included: "red apple", "two dogs".
    pub span: Span,
    /// The objects that it means; none if it names something absent.
    pub objects: Vec<usize>,
}

impl Caption {
    /// Says `plan`: "a dog, two red apples and the bus left of the house".
    pub fn compose(plan: &Plan, vocabulary: &Vocabulary) -> Self {
        let mut caption = Self { text: String::new(), mentions: vec![] };
        for (i, phrase) in plan.phrases.iter().enumerate() {
            caption.text += match plan.phrases.len() - i {
                _ if i == 0 => "",
                1 => " and ",
                _ => ", ",
            };
            let kind = &vocabulary.kinds[phrase.kind];
            let name = match phrase.count {
                1 => kind.name(),
                2 => format!("two {}", kind.plural()),
                _ => format!("three {}", kind.plural()),
            };
            match &phrase.clause {
                Some(clause) => {
                    caption.mention("the ", &name, phrase.objects.clone());
                    let anchor = &vocabulary.kinds[plan.objects[clause.anchor]];
                    caption.mention(
                        &format!(" {} the ", clause.relation.words()),
                        &anchor.name(),
                        vec![clause.anchor],
                    );
                }
                None if phrase.count == 1 => {
                    caption.mention(&format!("{} ", article(&name)), &name, phrase.objects.clone());
                }
                None => caption.mention("", &name, phrase.objects.clone()),
            }
        }
        caption
    }

    fn mention(&mut self, before: &str, name: &str, objects: Vec<usize>) {
        self.text += before;
        let begin = self.text.chars().count();
        self.text += name;
        self.mentions.push(Mention { span: [begin, self.text.chars().count()], objects });
    }
}

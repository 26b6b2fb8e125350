//! Properties of the whole dataset: determinism, files, spans, statistics.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::relation::PixelBox;
use super::*;

fn tiny(preset: Preset) -> EmojiConfig {
    EmojiConfig { seed: 7, size: 48, train: 60, pretrain: 12, val: 20, val_unseen: 16, preset }
}

fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files: Vec<_> = [folder.to_owned(), folder.join("images")]
        .iter()
        .flat_map(|folder| fs::read_dir(folder).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .map(|path| (path.strip_prefix(folder).unwrap().to_owned(), fs::read(path).unwrap()))
        .collect();
    files.sort();
    files
}

#[test]
fn the_same_configuration_gives_the_same_bytes_on_any_number_of_threads() {
    let temp = tempfile::tempdir().unwrap();
    let config = tiny(Preset::Base);
    let [first, second, third] = ["first", "second", "third"].map(|name| temp.path().join(name));
    let threads = |n| rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap();
    let calls = AtomicUsize::new(0);
    let count = |done, total| {
        assert!(done <= total && total == 108);
        calls.fetch_add(1, Ordering::Relaxed);
    };
    let summary = threads(1).install(|| generate(&first, &config, &count)).unwrap();
    threads(3).install(|| generate(&second, &config, &|_, _| ())).unwrap();
    assert_eq!(files(&first), files(&second));
    assert_eq!(calls.into_inner(), 108);
    assert_eq!(summary.splits.iter().map(|split| split.images).collect::<Vec<_>>(), [60, 12, 20, 16]);

    assert!(is_complete(&first, &config));
    let other = EmojiConfig { seed: 8, ..config };
    assert!(!is_complete(&first, &other) && !is_complete(&third, &other));
    generate(&first, &other, &|_, _| ()).unwrap(); // replaces the earlier one
    assert!(is_complete(&first, &other));
    assert_ne!(files(&first), files(&second));
}

#[test]
fn folders_with_other_things_are_left_alone() {
    let temp = tempfile::tempdir().unwrap();
    fs::write(temp.path().join("thesis.tex"), "precious").unwrap();
    let error = generate(temp.path(), &tiny(Preset::Base), &|_, _| ()).unwrap_err().to_string();
    assert!(error.contains("choose another folder"), "{error}");
    assert!(temp.path().join("thesis.tex").exists());
    let large = EmojiConfig { size: 5000, ..tiny(Preset::Base) };
    assert!(generate(&temp.path().join("new"), &large, &|_, _| ()).is_err());
}

fn spans(value: &Value) -> Vec<[usize; 2]> {
    serde_json::from_value::<Vec<[[usize; 2]; 1]>>(value.clone()).unwrap().into_iter().map(|[span]| span).collect()
}

#[test]
fn files_agree_with_captions_and_pictures() {
    for preset in [Preset::Base, Preset::Hard] {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path().join("emoji");
        let config = tiny(preset);
        let summary = generate(&folder, &config, &|_, _| ()).unwrap();
        let kinds = Vocabulary::new(preset, 0).unwrap().kinds;
        let names: HashSet<String> = kinds.iter().map(|kind| kind.name()).collect();
        let plurals: HashSet<String> = kinds.iter().map(|kind| kind.plural()).collect();
        for split in &summary.splits {
            let json = fs::read(folder.join(format!("{}.json", split.name))).unwrap();
            let file: Value = serde_json::from_slice(&json).unwrap();
            let (images, boxes) = (file["images"].as_array().unwrap(), file["annotations"].as_array().unwrap());
            assert_eq!((images.len(), boxes.len()), (split.images, split.annotations));
            assert!(boxes.iter().enumerate().all(|(id, record)| record["id"] == id));
            for (id, image) in images.iter().enumerate() {
                assert_eq!(image["id"], id);
                let path = folder.join("images").join(image["file_name"].as_str().unwrap());
                assert_eq!(image::image_dimensions(path).unwrap(), (48, 48));

                let caption: Vec<char> = image["caption"].as_str().unwrap().chars().collect();
                let text = |[begin, end]: [usize; 2]| caption[begin..end].iter().collect::<String>();
                let mentions = spans(&image["tokens_positive_eval"]);
                for &span in &mentions {
                    let (name, before) = (text(span), text([0, span[0]]));
                    let counted = name.strip_prefix("two ").or(name.strip_prefix("three "));
                    match counted {
                        Some(plural) => assert!(plurals.contains(plural), "{name}"),
                        None if before.ends_with("the ") => assert!(names.contains(&name), "{name}"),
                        None => {
                            let article = if name.starts_with(['a', 'e', 'i', 'o', 'u']) { "an " } else { "a " };
                            assert!(before.ends_with(article) && names.contains(&name), "{before}|{name}");
                        }
                    }
                }
                let mut grounded = HashSet::new();
                for record in boxes.iter().filter(|record| record["image_id"] == id) {
                    let [x, y, w, h]: [f32; 4] = serde_json::from_value(record["bbox"].clone()).unwrap();
                    assert!(x >= 0.0 && y >= 0.0 && w > 0.0 && h > 0.0 && x + w <= 48.0 && y + h <= 48.0);
                    assert_eq!(record["area"].as_f64(), Some(f64::from(w * h)));
                    grounded.extend(spans(&Value::Array(vec![record["tokens_positive"].clone()])));
                }
                let absent: HashSet<_> = spans(&image["absent"]).into_iter().collect();
                assert!(absent.is_disjoint(&grounded));
                assert_eq!(&absent | &grounded, mentions.into_iter().collect());
            }
        }
    }
}

/// Plans of 8000 scenes of a split; drawing them takes no pictures.
fn plans(vocabulary: &Vocabulary, preset: Preset, split: Split) -> Vec<Plan> {
    (0..8000).map(|i| Plan::draw(&mut split.rng(3, i), vocabulary, &split.recipe(preset))).collect()
}

fn names_absent(plan: &Plan) -> bool {
    plan.phrases.iter().any(|phrase| phrase.objects.is_empty())
}

#[test]
fn neither_the_caption_nor_the_number_of_objects_tells_that_something_is_absent() {
    for preset in [Preset::Base, Preset::Hard] {
        let vocabulary = Vocabulary::new(preset, 3).unwrap();
        let (absent, present): (Vec<_>, Vec<_>) =
            plans(&vocabulary, preset, Split::Train).into_iter().partition(names_absent);
        let rate = absent.len() as f64 / 8000.0;
        assert!((rate - 0.2).abs() < 4.0 * (0.2 * 0.8 / 8000.0_f64).sqrt(), "{rate}");

        let form = |plan: &Plan| {
            let counts = plan.phrases.iter().filter(|phrase| phrase.count > 1).count();
            let coloured = plan.phrases.iter().filter(|phrase| vocabulary.has_sibling(phrase.kind)).count();
            let related = plan.phrases.iter().any(|phrase| phrase.clause.is_some());
            [plan.phrases.len(), plan.objects.len(), counts, coloured, usize::from(related)]
        };
        for statistic in 0..5 {
            let mut parts: HashMap<usize, [f64; 2]> = HashMap::new();
            for (side, plans) in [&absent, &present].into_iter().enumerate() {
                for plan in plans {
                    parts.entry(form(plan)[statistic]).or_default()[side] += 1.0 / plans.len() as f64;
                }
            }
            for (value, [absent_part, present_part]) in parts {
                let error = 4.0 * (0.25 / absent.len() as f64).sqrt(); // four standard errors, at the most
                let apart = (absent_part - present_part).abs();
                assert!(apart < error, "{preset:?} {statistic} {value}: {absent_part} {present_part}");
            }
        }
        for names in 1..=3 {
            let all = |plan: &&Plan| plan.phrases.iter().all(|phrase| phrase.objects.is_empty());
            assert!(absent.iter().filter(all).any(|plan| plan.phrases.len() == names), "all of {names} absent");
        }
    }
}

#[test]
fn held_out_pairs_meet_in_their_split_only() {
    for preset in [Preset::Base, Preset::Hard] {
        let vocabulary = Vocabulary::new(preset, 3).unwrap();
        let pairs: HashSet<[usize; 2]> = vocabulary.held_out().flat_map(|[a, b]| [[a, b], [b, a]]).collect();
        assert_eq!(pairs.len(), 2 * vocabulary.kinds.len());
        let meet = |kinds: &[usize]| kinds.iter().any(|&a| kinds.iter().any(|&b| pairs.contains(&[a, b])));
        let named = |plan: &Plan| plan.phrases.iter().map(|phrase| phrase.kind).collect::<Vec<_>>();
        for split in [Split::Train, Split::Pretrain, Split::Val] {
            for plan in plans(&vocabulary, preset, split) {
                assert!(!meet(&[named(&plan), plan.objects].concat()));
            }
        }
        let unseen = plans(&vocabulary, preset, Split::ValUnseen);
        assert!(unseen.iter().all(|plan| meet(&named(plan)) && !names_absent(plan)));
    }
}

#[test]
fn phrases_mean_all_and_only_the_objects_they_describe() {
    for (preset, split) in [Preset::Base, Preset::Hard].into_iter().flat_map(|p| Split::ALL.map(|s| (p, s))) {
        let vocabulary = Vocabulary::new(preset, 3).unwrap();
        let config = EmojiConfig { seed: 3, size: 64, preset, ..EmojiConfig::default() };
        let recipe = split.recipe(preset);
        for index in 0..150 {
            let (plan, scene) = draw_scene(&config, &vocabulary, split, index);
            for phrase in &plan.phrases {
                let of_kind: Vec<usize> =
                    (0..plan.objects.len()).filter(|&i| plan.objects[i] == phrase.kind).collect();
                match phrase.clause {
                    _ if phrase.objects.is_empty() => assert!(of_kind.is_empty()),
                    None => {
                        assert_eq!(of_kind.iter().collect::<HashSet<_>>(), phrase.objects.iter().collect());
                        assert_eq!(of_kind.len(), phrase.count);
                    }
                    Some(clause) => {
                        let holds =
                            |i: &&usize| clause.relation.holds(&scene.boxes[**i], &scene.boxes[clause.anchor], 0.0);
                        assert_eq!(of_kind.len(), 2);
                        assert_eq!(of_kind.iter().filter(holds).collect::<Vec<_>>(), [&phrase.objects[0]]);
                    }
                }
            }
            if preset == Preset::Base {
                assert_eq!(plan.objects.iter().collect::<HashSet<_>>().len(), plan.objects.len());
            }
            let longest = recipe.sides.end * 64.0 * 1.3 + 2.0; // a rotation makes the box of a square larger
            for (i, at) in scene.boxes.iter().enumerate() {
                assert!(at.x + at.width <= 64 && at.y + at.height <= 64);
                assert!((at.width.max(at.height) as f32) < longest);
                for other in &scene.boxes[..i] {
                    assert!(at.intersection(other) * 20 <= 3 * at.area().min(other.area()));
                }
            }
        }
    }
}

#[test]
fn a_box_holds_exactly_the_pixels_of_its_object() {
    let vocabulary = Vocabulary::new(Preset::Base, 0).unwrap();
    let pose = sprite::Pose { side: 20.0, angle: 0.3, brightness: 1.0 };
    let stamp = vocabulary.sprites[0].draw(pose).unwrap();
    let at = PixelBox { x: 7, y: 11, width: stamp.width, height: stamp.height };
    let mut canvas = vec![[2.0; 3]; 48 * 48];
    scene::blend(&mut canvas, 48, &stamp, &at);
    let changed = |i: &usize| canvas[*i] != [2.0; 3];
    let rows: Vec<usize> = (0..48 * 48).filter(changed).map(|i| i / 48).collect();
    let columns: Vec<usize> = (0..48 * 48).filter(changed).map(|i| i % 48).collect();
    assert_eq!((rows.iter().min(), rows.iter().max()), (Some(&at.y), Some(&(at.y + at.height - 1))));
    assert_eq!((columns.iter().min(), columns.iter().max()), (Some(&at.x), Some(&(at.x + at.width - 1))));
}

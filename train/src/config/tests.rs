use super::*;
use crate::settings::Settings;

fn resolved(assignments: &[&str]) -> RunConfig {
    let mut settings = Settings::default();
    assignments.iter().for_each(|assignment| settings.add_assignment(assignment).unwrap());
    settings.resolve().unwrap()
}

#[test]
fn what_cannot_work_is_refused_with_the_reason() {
    assert!(RunConfig::default().check().is_ok());
    assert_eq!(resolved(&["batch_size=4294967296", "accumulate=4294967296"]).images_per_step(), usize::MAX);
    // Weights of losses that are off change nothing.
    assert!(resolved(&["qa_loss_coef=25", "mask_loss_coef=2", "dist_url=x", "remove_difficult=1"]).check().is_ok());
    for (setting, reason) in [
        ("backbone=vgg", "resnet101"),
        ("backbone=timm_tf_efficientnet_b3_ns", "timm's backbones are not built"),
        ("run_name=a/b", "not the name of a folder"),
        ("batch_size=0", "a step needs images"),
        ("accumulate=0", "at least one batch"),
        ("lr=-1", ">= 0"),
        ("ema_decay=2", "not in [0, 1]"),
        ("masks=1", "mask heads are not built"),
        ("mask_model=v2", "mask heads are not built"),
        ("frozen_weights=x.pth", "mask heads"),
        ("do_qa=1", "question heads are not built"),
        ("split_qa_heads=1", "question heads are not built"),
        ("no_detection=1", "questions"),
        ("predict_final=1", "is not built"),
        ("contrastive_loss=1", "contrastive_align_loss is"),
        ("set_loss=sequential", "hungarian"),
        ("no_pass_pos_and_query=1", "positions"),
        ("epoch_chunks=25", "chunks are not built"),
        ("split=testdev", "mdetr eval"),
        ("clevr_eval_path=x", "mdetr eval"),
        ("lvis_minival_path=x", "mdetr eval"),
        ("world_size=2", "one process"),
        ("ngpus=8", "one process"),
        ("nodes=4", "one process"),
        ("partition=p", "cluster"),
        ("timeout=3", "cluster"),
        ("job_dir=d", "cluster"),
        ("mail=me", "cluster"),
    ] {
        let (key, _) = setting.split_once('=').unwrap();
        let message = format!("{:#}", resolved(&[setting]).check().unwrap_err());
        assert!(message.contains(key) && message.contains(reason), "{setting}: {message}");
    }
    let message = format!("{:#}", resolved(&["do_qa=1", "nodes=4"]).check().unwrap_err());
    assert!(message.contains("do_qa") && message.contains("nodes"), "all at once: {message}");
}

#[test]
fn a_run_goes_where_its_names_say() {
    for (settings, folder) in [
        (&[][..], "runs/mdetr"),
        (&["run_name=a"], "runs/a"),
        (&["output_dir=step1"], "step1"),
        (&["output_dir=out", "run_name=a"], "out/a"),
    ] {
        assert_eq!(resolved(settings).run_dir(), PathBuf::from(folder));
    }
}

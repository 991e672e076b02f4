use super::*;

#[test]
fn flags_win_over_the_file_and_what_is_written_reads_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.toml");
    std::fs::write(&path, "dim = 64\nlayers = 1\ndistil-from = \"baseline\"\n").unwrap();
    let flags = RecipeOptions {
        layers: Some(3),
        ..RecipeOptions::default()
    };
    let recipe = Recipe::resolve(Some(&path), flags, Beginning::New).unwrap();
    assert_eq!((recipe.dim, recipe.layers, recipe.heads), (64, 3, 2));
    assert_eq!(recipe.distil_from.to_string(), "baseline");
    std::fs::write(&path, recipe.to_toml().unwrap()).unwrap();
    assert_eq!(
        Recipe::resolve(Some(&path), RecipeOptions::default(), Beginning::New).unwrap(),
        recipe
    );
}

/// `retrain` follows what lies beside a checkpoint.
#[test]
fn the_recipes_of_the_starters_can_be_followed() {
    for starter in ["v1", "v2"] {
        let path = format!(
            "{}/../../models/starter/{starter}/recipe.toml",
            env!("CARGO_MANIFEST_DIR")
        );
        Recipe::resolve(Some(Path::new(&path)), RecipeOptions::default(), Beginning::Checkpoint).unwrap();
    }
}

#[test]
fn bad_recipes_are_refused_with_a_reason() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.toml");
    for (text, reason) in [
        ("dimm = 64", "unknown field `dimm`"),
        ("dim = \"wide\"", "invalid type"),
        ("epochs = 0.0", "epochs is 0"),
        ("warm-up = 1.5", "warm-up is 1.5"),
        ("label-smoothing = 1.0", "label-smoothing is 1"),
        ("layer-decay = 0.0", "layer-decay is 0"),
        ("class-weights = \"4,1\"", "LABEL=WEIGHT"),
        ("class-weights = \"a=0\"", "must be positive"),
        ("batch-size = 0", "batch-size"),
    ] {
        std::fs::write(&path, text).unwrap();
        let error = format!(
            "{:#}",
            Recipe::resolve(Some(&path), RecipeOptions::default(), Beginning::New).unwrap_err()
        );
        assert!(error.contains(reason), "{error}");
    }
    assert!(
        Recipe::resolve(
            Some(&folder.path().join("none")),
            RecipeOptions::default(),
            Beginning::New
        )
        .is_err()
    );
}

#[test]
fn a_checkpoint_is_trained_with_smaller_steps_than_a_new_model() {
    let recipe = |beginning| Recipe::resolve(None, RecipeOptions::default(), beginning).unwrap();
    let (new, fine) = (recipe(Beginning::New), recipe(Beginning::Checkpoint));
    assert_eq!((new.batch_size, new.learning_rate, new.warm_up), (32, 1e-3, 0.05));
    assert_eq!((fine.batch_size, fine.learning_rate, fine.warm_up), (16, 3e-5, 500.0));
    assert_eq!((fine.epochs, fine.evaluation_batch, fine.weight_decay), (3.0, 64, 0.01));
    let flags = RecipeOptions {
        learning_rate: Some(1e-4),
        ..RecipeOptions::default()
    };
    let given = Recipe::resolve(None, flags, Beginning::Checkpoint).unwrap();
    assert_eq!((given.learning_rate, given.batch_size), (1e-4, 16));
}

#[test]
fn class_weights_read_back() {
    for text in ["none", "balanced", "spoiler=4,no=0.5", "a=b=2"] {
        let weights: ClassWeights = text.parse().unwrap();
        assert_eq!(String::from(weights), text);
    }
}

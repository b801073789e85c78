"""``vqkit presets``: what there is to train."""


def presets() -> None:
    """List the presets, with what each is for."""
    from vqkit.config import preset_names, preset_summary

    width = max(len(name) for name in preset_names())
    for name in preset_names():
        print(f"{name:<{width}}  {preset_summary(name)}")
    print("\nvqkit config NAME shows every key of one, vqkit train NAME trains it.")

"""How the tiny backbones were pre-trained; nothing here runs in an experiment."""

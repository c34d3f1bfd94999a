def after_migrate(sender, using, **kwargs):
    pass

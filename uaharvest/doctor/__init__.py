"""Looks at every setting and every service that the harvest depends on, and says what to change.

`examination.py` runs the checks of the table in `checks.py`, each as soon as what it depends on has passed. A check is
a small generator that takes a `Site` and yields findings; each service has a module. Nothing here changes what the
harvest does: S3 gets one small object, which is deleted at once, Redis a key that expires, and SQS no message.
"""

"""The checks of `manage.py doctor`: each looks at one thing of a deployment, and says what to do about it.

They change nothing that lasts, and none may take longer than its seconds. docs/decisions/0046-doctor-and-packages.md
"""

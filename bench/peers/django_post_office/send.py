"""Queues N personalised emails with django-post_office and sends them through django-ses with its best settings.

    python send.py EMAILS SOCKET_FOLDER DATABASE SES_URL THREADS HTML_FILE
"""

import json
import os
import resource
import sys
import time
from pathlib import Path

import django
from django.conf import settings

emails, host, database, endpoint, threads, file = sys.argv[1:]
os.environ.update(AWS_ACCESS_KEY_ID="test", AWS_SECRET_ACCESS_KEY="test", AWS_ENDPOINT_URL_SESV2=endpoint)
settings.configure(
    INSTALLED_APPS=["django.contrib.contenttypes", "post_office"],
    DATABASES={"default": {"ENGINE": "django.db.backends.postgresql", "NAME": database, "USER": "postgres", "HOST": host}},
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    EMAIL_BACKEND="post_office.EmailBackend",
    TEMPLATES=[{"BACKEND": "post_office.template.backends.post_office.PostOfficeTemplates", "APP_DIRS": True,
                "DIRS": [], "OPTIONS": {"context_processors": []}},
               {"BACKEND": "django.template.backends.django.DjangoTemplates", "DIRS": [], "OPTIONS": {}}],
    POST_OFFICE={"BACKENDS": {"default": "django_ses.SESBackend"}, "BATCH_SIZE": 1000,
                 "THREADS_PER_PROCESS": int(threads), "DEFAULT_PRIORITY": "medium", "LOG_LEVEL": 1},
    USE_SES_V2=True,
    AWS_SES_REGION_NAME="us-east-1",
    AWS_SES_REGION_ENDPOINT_URL=endpoint,
    AWS_SES_AUTO_THROTTLE=None,
    AWS_SES_CONFIGURATION_SET="sendledger",
    USE_TZ=True,
)
django.setup()

from django.core.management import call_command  # noqa: E402
from post_office import mail  # noqa: E402
from post_office.models import Email, EmailTemplate  # noqa: E402

call_command("migrate", verbosity=0)
template = EmailTemplate.objects.create(
    name="idea",
    subject="{{ contact_name }}, an idea for {{ company_name }}",
    content="Dear {{ contact_name }}",
    html_content=Path(file).read_text(encoding="utf-8"),
)
mail.send_many(
    [
        {
            "sender": "Sales <sales@example.com>",
            "recipients": [f"lead{number}@example.com"],
            "template": template,
            "render_on_delivery": True,
            "context": {"contact_name": f"Ann{number} Lee", "company_name": f"Company {number}", "city": "Porto",
                        "country": "Portugal", "job_title": "Owner"},
        }
        for number in range(int(emails))
    ]
)
before, started = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
mail.send_queued(processes=1)
while Email.objects.exclude(status=0).exists():
    mail.send_queued(processes=1)
seconds, now = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({
    "emails": Email.objects.filter(status=0).count(),
    "seconds": seconds,
    "cpu": now.ru_utime + now.ru_stime - before.ru_utime - before.ru_stime,
    "peak_mb": now.ru_maxrss / 1024,
}))

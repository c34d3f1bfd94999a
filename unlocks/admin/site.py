from django.contrib import admin


class DeskSite(admin.AdminSite):
    site_header = site_title = "Unlock Desk"
    index_title = "Queue"
    enable_nav_sidebar = False

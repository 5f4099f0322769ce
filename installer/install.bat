@echo off
rem Starts install.py beside this file with the newest Python that the launcher finds.
py -3 -I "%~dp0install.py" %*
if errorlevel 1 pause
